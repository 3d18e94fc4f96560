"""Cursors come back exactly as they went, through JSON."""

from datetime import UTC, timedelta, timezone
from decimal import Decimal

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
