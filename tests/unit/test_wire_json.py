"""The JSON codec: readable, bounded before it is built, and spelled so that pydantic reads it back."""

import math
import tracemalloc
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from worker.core.errors import PayloadError
from worker.queue.json_bounds import check_json
from worker.queue.wire import Bounds, Codec, decode, encode, json_deserializer, json_serializer

ENVELOPE: dict[str, object] = {"t": None, "f": "job", "a": [], "et": 1_767_225_600_000}

_json = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


class Colour(StrEnum):
    """A text with a class of its own."""

    RED = "red"


class Level(IntEnum):
    """A number with a class of its own."""

    HIGH = 3


def job(**kwargs: object) -> dict[str, object]:
    """Arq's dictionary of a job with these keyword arguments."""
    return {**ENVELOPE, "k": kwargs}


def sent(value: object) -> object:
    """What a parameter arrives as."""
    kwargs = decode(encode(job(value=value), Codec.JSON))["k"]
    assert isinstance(kwargs, dict)
    return kwargs["value"]


def inside(value: bytes) -> bytes:
    """A job's payload with a raw JSON value as its parameter."""
    return orjson.dumps(job(value="@")).replace(b'"@"', value)


@given(value=_json)
@example(value=["\\" * 65_535 + '"[' * 40_000, "[" * 70_000, ['"'] * 70_000])
@example(value={'"': '\\"', "\\": ["[", "{", '\\\\"']})
def test_json_data_comes_back_equal(value: object) -> None:
    """What JSON can hold arrives as it was sent."""
    assert sent(value) == value


@given(value=_json)
def test_members_that_arq_does_not_know_are_kept(value: object) -> None:
    """Other tools' members ride along in the message."""
    assert decode(encode({**job(), "trace": value}, Codec.JSON))["trace"] == value


SPELLINGS = [
    (datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2020-01-02T03:04:05.000006+00:00"),
    (datetime(2020, 7, 1, tzinfo=ZoneInfo("Europe/Paris")), "2020-07-01T00:00:00+02:00"),
    (date(2020, 1, 2), "2020-01-02"),
    (time(3, 4, 5), "03:04:05"),
    (timedelta(days=1, seconds=2, microseconds=3), "P1DT2.000003S"),
    (-timedelta(days=1, seconds=2), "-P1DT2.000000S"),
    (timedelta.max, "P999999999DT86399.999999S"),
    (timedelta.min, "-P999999999DT0.000000S"),
    (Decimal("1.10"), "1.10"),
    (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    ("é".encode(), "é"),
    ((1, (2,)), [1, [2]]),
    ({1}, [1]),
    (frozenset({1}), [1]),
    (2**64, "18446744073709551616"),
    (-(2**63) - 1, "-9223372036854775809"),
    (math.inf, "Infinity"),
    (-math.inf, "-Infinity"),
    (Colour.RED, "red"),
    (Level.HIGH, 3),
    ({1: 2, date(2020, 1, 2): 3, 1.5: 4}, {"1": 2, "2020-01-02": 3, "1.5": 4}),
    ({Colour.RED: (1,)}, {"red": [1]}),
]


@pytest.mark.parametrize(("value", "spelled"), SPELLINGS, ids=repr)
def test_plain_data_is_spelled_readably(value: object, spelled: object) -> None:
    """Each type that JSON lacks has one documented spelling."""
    assert sent(value) == spelled


@given(
    value=st.one_of(
        st.timedeltas(),
        st.decimals(allow_nan=False, allow_infinity=False),
        st.uuids(),
        st.dates(),
        st.integers(),
        st.floats(allow_nan=False),
        st.datetimes(timezones=st.just(UTC)),
        st.times(),
        st.text().map(str.encode),
    )
)
def test_pydantic_reads_a_spelling_back(value: Any) -> None:
    """Validation by the job's signature restores the value that was sent."""
    assert TypeAdapter(type(value)).validate_python(sent(value)) == value


def test_nan_is_read_back_as_nan() -> None:
    """NaN is not turned into null, as orjson would."""
    assert math.isnan(TypeAdapter(float).validate_python(sent(math.nan)))


def test_a_zone_is_spelled_by_its_offset() -> None:
    """A fixed offset itself is plain data too."""
    assert sent(timezone(timedelta(hours=1))) == "UTC+01:00"


def _circle() -> list[object]:
    circle: list[object] = []
    circle.append(circle)
    return circle


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (object(), r"builtins\.object is not plain data"),
        (Bounds(), r"worker\.queue\.bounds\.Bounds is not plain data"),
        (ValueError("a"), r"builtins\.ValueError"),
        (bytearray(b"a"), r"builtins\.bytearray"),
        (b"\xff", "base64"),
        ("\ud800", "surrogates"),
        (_circle(), "holds itself"),
        (2**20_000, "20,001 bits"),
        ({1: "a", "1": "b"}, "written alike"),
        ({None: 1}, "NoneType is a dictionary key"),
        ({True: 1}, "bool is a dictionary key"),
        ({(1,): 1}, "list is a dictionary key"),
        (time(1, tzinfo=ZoneInfo("Europe/Paris")), "no offset"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_anything_else_is_not_written(value: object, reason: str) -> None:
    """What cannot be spelled without a guess is refused, naming it."""
    with pytest.raises(PayloadError, match=reason):
        encode(job(value=value), Codec.JSON)


HOSTILE = {
    "not an object": (b"[]", r"b'\[\]'"),
    "leading space": (b" {}", "begins with"),
    "empty": (b"", "begins with b''"),
    "another codec": (b"\x85\xa1t", "begins with"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "begins with"),
    "lists in lists": (inside(b"[" * 100_000 + b"]" * 100_000), "deeper than 64"),
    "objects in objects": (inside(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "deeper than 64"),
    "lists that never end": (b'{"a":' + b"[" * 100_000, "brackets"),
    "brackets the wrong way round": (inside(b"][" * 10), "brackets|is not"),
    "brackets of two kinds": (inside(b"[}"), "brackets|not:"),
    "too large": (inside(b'"' + b"a" * 9_000_000 + b'"'), "more than the 8,388,608"),
    "too many numbers": (inside(b"[" + b"1," * 600_000 + b"1]"), "500,000"),
    "too many strings": (inside(b'["",' + b'"",' * 600_000 + b'""]'), "500,000"),
    "NaN": (inside(b"NaN"), "is not"),
    "Infinity": (inside(b"-Infinity"), "is not"),
    "a float too large": (inside(b"1e999"), "is not"),
    "2**64": (inside(b"18446744073709551616"), "beyond 64 bits"),
    "-2**63-1": (inside(b"[-9223372036854775809]"), "beyond 64 bits"),
    "a huge integer": (inside(b"9" * 1_000_000), "1000000 digits"),
    "invalid UTF-8": (inside(b'"\xff"'), "is not"),
    "a lone surrogate": (inside(b'"\\ud800"'), "is not"),
    "truncated": (orjson.dumps(job(value=[1, 2]))[:-3], "brackets"),
    "truncated in a string": (b'{"t', "brackets|is not"),
    "a second value": (orjson.dumps(job()) + b"{}", "is not"),
    "strings without commas": (inside(b'""' * 600_000), "is not"),
    "a comment": (inside(b"/*a*/1"), "is not"),
    "a backslash outside": (inside(b'\\"[[[['), "brackets|is not"),
}


@pytest.mark.parametrize(("payload", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_json_is_refused(payload: bytes, reason: str) -> None:
    """Text that is too much, inexact or not JSON is refused, saying which."""
    with pytest.raises(PayloadError, match=reason):
        decode(payload)


@pytest.mark.parametrize(
    "name",
    ["lists in lists", "objects in objects", "too large", "too many numbers", "too many strings", "a huge integer"],
)
def test_refusing_json_takes_little_memory(name: str) -> None:
    """What is refused for its size is refused from its punctuation, a few copies of it at the most."""
    payload, _ = HOSTILE[name]
    tracemalloc.start()
    with pytest.raises(PayloadError):
        decode(payload)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * len(payload) + 2**20


@pytest.mark.parametrize(
    "value",
    [
        b"18446744073709551615",
        b"-9223372036854775808",
        b"0.12345678901234567890123",
        b"1e-30",
        b'"12345678901234567890123"',
        b"12345678901234567890.5",
        b"12345678901234567890123e5",
        rb'''"\\\"[[["''',
    ],
)
def test_numbers_within_64_bits_floats_and_texts_pass(value: bytes) -> None:
    """Only integers that would lose digits are refused."""
    kwargs = decode(inside(value))["k"]
    assert isinstance(kwargs, dict)
    assert kwargs["value"] == orjson.loads(value)


@given(value=_json)
def test_the_bounds_count_what_is_there(value: object) -> None:
    """A text passes with its own number of values and depth as bounds, and is refused with less."""
    payload = orjson.dumps(value)
    nodes, depth = _measure(value)
    check_json(payload, Bounds(max_nodes=2 * nodes, max_depth=depth))
    if depth > 0:
        with pytest.raises(PayloadError, match="deeper"):
            check_json(payload, Bounds(max_nodes=2 * nodes, max_depth=depth - 1))
    with pytest.raises(PayloadError, match="values"):
        check_json(payload, Bounds(max_nodes=nodes // 2, max_depth=depth))


def _measure(value: object) -> tuple[int, int]:
    children: list[object] = list(value) if isinstance(value, list) else []
    if isinstance(value, dict):
        children = [*value.keys(), *value.values()]
    sizes = [_measure(child) for child in children]
    own = 1 if isinstance(value, list | dict) else 0
    return 1 + sum(nodes for nodes, _ in sizes), own + max((depth for _, depth in sizes), default=0)


@given(payload=st.binary(max_size=60) | st.text(alphabet='{}[]",:\\ 019-.eE').map(str.encode))
def test_random_text_is_refused_or_read(payload: bytes) -> None:
    """Nothing but PayloadError comes out of noise."""
    with pytest.raises(PayloadError):
        decode(b"{" + payload)


def test_the_functions_for_plain_clients_agree() -> None:
    """What `json_serializer` writes begins with a brace and `json_deserializer` reads it."""
    payload = json_serializer(job(a=1))
    assert payload.startswith(b"{")
    assert json_deserializer(payload) == job(a=1)
