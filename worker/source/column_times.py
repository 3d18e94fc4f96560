"""Date-times and times as a column stores them: with a time zone or without one, never the other.

Owns the conversion. A naive value is taken as UTC where the column has a time zone; an aware one is converted to UTC
where it has none. Refuses a time of day with an offset for a column without one: without a date it has no UTC form.
"""

import datetime as dt
from typing import Final

_EPOCH_AWARE: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
# Naive on purpose: it is what a column without a time zone stores.
_EPOCH_NAIVE: Final = dt.datetime(1970, 1, 1)  # noqa: DTZ001  # see above
_OUT_OF_RANGE: Final = "is not a moment between the years 1 and 9999 in UTC"


def make_aware(column: list[object], faults: dict[int, str]) -> list[object]:
    """Give naive date-times the zone UTC, for a column that stores moments.

    Args:
        column: validated values; other than date-times pass unchanged.
        faults: where reasons go, by index.

    Returns:
        The column to go on with.
    """
    return [_aware(value, index, faults) for index, value in enumerate(column)]


def make_naive(column: list[object], faults: dict[int, str]) -> list[object]:
    """Turn aware date-times into naive ones in UTC, for a column that has no time zone.

    Args:
        column: validated values; other than date-times pass unchanged.
        faults: where reasons go, by index.

    Returns:
        The column to go on with.
    """
    try:
        # An aware subtraction and a naive addition cost a third of astimezone() and replace().
        return [
            value - _EPOCH_AWARE + _EPOCH_NAIVE if isinstance(value, dt.datetime) and value.tzinfo else value
            for value in column
        ]
    except OverflowError:
        return [_naive(value, index, faults) for index, value in enumerate(column)]


def make_time_aware(column: list[object], _faults: dict[int, str]) -> list[object]:
    """Give naive times of day the offset of UTC, for a column that stores an offset."""
    return [
        value.replace(tzinfo=dt.UTC) if isinstance(value, dt.time) and value.tzinfo is None else value
        for value in column
    ]


def refuse_offset(column: list[object], faults: dict[int, str]) -> list[object]:
    """Refuse times of day with an offset, for a column that would drop it silently."""
    for index, value in enumerate(column):
        if isinstance(value, dt.time) and value.tzinfo is not None:
            faults[index] = "has an offset from UTC, which the column cannot keep; give a time such as 12:30:00"
    return column


def _aware(value: object, index: int, faults: dict[int, str]) -> object:
    if not isinstance(value, dt.datetime):
        return value
    if value.tzinfo is None:
        return value.replace(tzinfo=dt.UTC)
    # Only at the ends of the calendar can a moment have no UTC form, and a driver needs that form.
    if dt.MINYEAR < value.year < dt.MAXYEAR:
        return value
    try:
        return value.astimezone(dt.UTC)
    except OverflowError:
        faults[index] = _OUT_OF_RANGE
        return None


def _naive(value: object, index: int, faults: dict[int, str]) -> object:
    if not isinstance(value, dt.datetime) or value.tzinfo is None:
        return value
    try:
        return value - _EPOCH_AWARE + _EPOCH_NAIVE
    except OverflowError:
        faults[index] = _OUT_OF_RANGE
        return None
