"""Cursors come back exactly as they went, through JSON."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.cursor import CursorError, read_key, write_key

zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45)), None])
key_values = st.one_of(
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.text(),
    st.floats(allow_nan=False),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.datetimes(timezones=zones),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    st.binary(),
)


@given(st.lists(key_values, max_size=4))
def test_keys_survive_json(values: list[object]) -> None:
    """A key of any ordered type is the same value, of the same type, after a trip through JSON."""
    read = read_key(orjson.loads(orjson.dumps(write_key(values))))
    assert read == tuple(values)
    assert [type(value) for value in read] == [type(value) for value in values]


@pytest.mark.parametrize("value", [None, float("nan"), Decimal("NaN"), [1], {"a": 1}])
def test_a_value_without_a_place_in_an_order_is_refused_when_written(value: object) -> None:
    """NULL, NaN and containers cannot be walked past."""
    with pytest.raises(CursorError):
        write_key([value])


@pytest.mark.parametrize("written", [None, "x", [["int", "x"]], [["uuid", "1"]], [["moon", "1"]], [["int"]], [[1, 2]]])
def test_a_damaged_cursor_is_refused(written: object) -> None:
    """What `write_key` never wrote is not guessed at."""
    with pytest.raises(CursorError):
        read_key(written)


@pytest.mark.parametrize(
    "value",
    [
        2**53 + 1,
        -(2**63),
        0.1,
        5e-324,
        -0.0,
        float("inf"),
        True,
        Decimal("1.10"),
        Decimal("1E+30"),
        datetime(2026, 10, 25, 2, 30, 0, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
        datetime(2026, 10, 25, 2, 30, 0, 999_999),  # noqa: DTZ001 - a column without a zone
        date.min,
        time(23, 59, 59, 999_999),
        timedelta(days=-1, microseconds=1),
        timedelta.max,
        UUID(int=1),
        b"\x00\xff",
        "",
        "\x00 \N{PILE OF POO}",
    ],
    ids=repr,
)
def test_a_value_at_an_edge_is_not_rounded(value: object) -> None:
    """Its text form is the same afterwards, so zeros, offsets, microseconds and signs are too."""
    (read,) = read_key(orjson.loads(orjson.dumps(write_key([value]))))
    assert repr(read) == repr(value)


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-3, minutes=-30))])))
def test_a_moment_keeps_its_offset(moment: datetime) -> None:
    """A time with a zone comes back with the same offset and microseconds, not only as the same moment."""
    (read,) = read_key(orjson.loads(orjson.dumps(write_key([moment]))))
    assert isinstance(read, datetime)
    assert (read.replace(tzinfo=None), read.utcoffset()) == (moment.replace(tzinfo=None), moment.utcoffset())


@given(st.integers())
def test_integers_travel_as_text(value: int) -> None:
    """A JSON reader that holds numbers as floats cannot damage a key."""
    assert write_key([value]) == [["int", str(value)]]


def test_an_empty_key_is_an_empty_key() -> None:
    """No values are written as none and read as none."""
    assert read_key(write_key([])) == ()


def test_a_refusal_names_the_value_and_its_type() -> None:
    """The message says what was found, and shows a key that would do."""
    with pytest.raises(CursorError, match=r"\[1\] of type list.*for example key=Order\.id"):
        write_key([1, [1]])


def test_a_type_that_only_resembles_a_key_is_refused() -> None:
    """A subclass would come back as its base, which is another value."""
    shelf = IntEnum("shelf", ["TOP"])
    with pytest.raises(CursorError, match="of type shelf"):
        write_key([shelf["TOP"]])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("int", "1.5"),
        ("float", "much"),
        ("float", "0x1p99999"),
        ("decimal", "1,5"),
        ("datetime", "2026-02-30T00:00:00"),
        ("date", "2026-13-01"),
        ("time", "25:00:00"),
        ("timedelta", "1" * 30),
        ("uuid", "not-a-uuid"),
        ("bytes", "f"),
    ],
)
def test_a_damaged_value_is_named(name: str, text: str) -> None:
    """The message has the damaged text and the type that it should have been of."""
    with pytest.raises(CursorError, match=f"holds '{text}', which is no {name}"):
        read_key([[name, text]])


@pytest.mark.parametrize(
    "pair", [["bool", "true"], ["bool", 1], ["int", 1], ["str", None], ["int", "1", "2"], "int", {}]
)
def test_a_pair_of_another_shape_is_refused(pair: object) -> None:
    """A JSON value of the wrong type is damage too, even where Python could make sense of it."""
    with pytest.raises(CursorError, match="no \\[type, value\\] pair"):
        read_key([pair])
