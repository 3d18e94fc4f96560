"""Raw values of refused rows: whatever a source can give comes back from JSON as it was."""

import datetime as dt
from decimal import Decimal
from enum import Enum
from uuid import UUID

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.source.batch import ABSENT
from worker.source.raw_values import Lost, read_raw, write_raw


class Colour(Enum):
    """Named otherwise than it is written."""

    RED = "red"


marked = st.sampled_from(["$bytes", "$object", "$int", "$lost", "$", "a"])
scalars = (
    st.none()
    | st.booleans()
    | st.text(st.characters(codec=None, exclude_categories=()), max_size=5)
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.decimals(allow_nan=False)
    | st.binary(max_size=5)
    | st.datetimes(timezones=st.none() | st.just(dt.UTC))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(marked | st.text(max_size=3), inner, max_size=2),
    max_leaves=8,
)


def there_and_back(value: object) -> object:
    """What is read of what was written, by way of JSON text."""
    return read_raw(orjson.loads(orjson.dumps(write_raw(value))))


@example(value={"$object": {"$bytes": "00"}})
@example(value="\ud800")
@example(value={"a": ["\ud800", 10**30, b"\xff"]})
@example(value=10**9000)
@example(value=-(10**9000))
@given(value=values)
def test_any_value_comes_back_as_it_was(value: object) -> None:
    """Text that is no UTF-8, huge numbers, bytes, times, and objects that look like marks, at any depth."""
    read = there_and_back(value)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("value", [float("nan"), Decimal("NaN"), float("inf"), Decimal("-Infinity")])
def test_numbers_that_are_none_come_back(value: object) -> None:
    """NaN differs from itself, and comes back all the same."""
    assert repr(there_and_back(value)) == repr(value)


def test_what_stands_in_json_is_left_alone() -> None:
    """A person reads the usual values as they came."""
    row = {"id": 1, "name": "x\x00", "price": 1.5, "tags": ["a", None], "ok": True, "doc": {"a": {"b": []}}}
    assert write_raw(row) == row


def test_an_absent_value_is_null_and_an_enumeration_its_value() -> None:
    """As CSV's empty cell, and as validation reads a member."""
    assert write_raw([ABSENT, Colour.RED]) == [None, "red"]


def test_a_mark_says_the_type() -> None:
    """So a person can tell what was there."""
    assert write_raw([b"\x00\xff", Decimal("1.50"), UUID(int=1)]) == [
        {"$bytes": "00ff"},
        {"$decimal": "1.50"},
        {"$uuid": "00000000-0000-0000-0000-000000000001"},
    ]


def test_what_cannot_be_kept_says_so() -> None:
    """Too deep a nesting and names that are no text are lost, and read as a value that nothing takes."""
    deep: list[object] = []
    for _ in range(900):
        deep = [deep]
    assert "nested deeper" in repr(there_and_back(deep))
    assert there_and_back({"\ud800": 1}) == Lost("has a member whose name is no text")
