"""How a row that cannot be used is told to a person: the reason in one line, the payload for a replay.

Owns the wording of reasons and the JSON-safe form of raw values. Refuses to decide what is a fault.
"""

import reprlib
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from worker.source.batch import ABSENT
from worker.source.raw_values import write_raw

_GIVEN_LENGTH: Final = 80
_MESSAGE_LENGTH: Final = 300
_MESSAGES_PER_VALUE: Final = 3
_DECIMAL_BITS: Final = 14_000


class _Short(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write an integer of thousands of digits as decimal.
        return super().repr_int(x, level) if x.bit_length() < _DECIMAL_BITS else f"{x:#x}"[:_GIVEN_LENGTH]


_short = _Short()
_short.maxlevel = 3
_short.maxstring = _short.maxother = _short.maxlong = _GIVEN_LENGTH


def refused(column: str, why: str, given: object) -> str:
    """A reason such as `column 'dep_delay': Input should be a valid integer; given 'abc'`.

    Args:
        column: the column's name.
        why: what is wrong with the value.
        given: the raw value; `ABSENT` leaves it out.
    """
    return f"column {column!r}: {why}" if given is ABSENT else f"column {column!r}: {why}; given {show(given)}"


def show(value: object) -> str:
    """A value in one printable line of about 80 characters."""
    # Cutting before quoting keeps the cost of a value of megabytes at that of its beginning.
    if isinstance(value, str):
        return repr(value) if len(value) <= _GIVEN_LENGTH else f"{value[:_GIVEN_LENGTH]!r}..."
    text = _short.repr(value)
    return one_line(text if len(text) <= _GIVEN_LENGTH else f"{text[:_GIVEN_LENGTH]}...")


def one_line(text: str) -> str:
    """Text without line breaks, NUL or lone surrogates, cut where it is long."""
    flat = " ".join(text[:_MESSAGE_LENGTH].split()).replace("\x00", "\\x00")
    return _encodable(flat)


def message(error: ErrorDetails, *, skip: int) -> str:
    """One pydantic error in words, with the place inside the value where it has one.

    Args:
        error: as `ValidationError.errors` lists it.
        skip: how many leading parts of its place name the row or the column.
    """
    place = ".".join(str(part) for part in error["loc"][skip:])
    return one_line(f"{error['msg']} (at {place})" if place else error["msg"])


def messages(errors: list[str]) -> str:
    """The errors of one value as one text: the first few and how many more there are."""
    shown = ", ".join(errors[:_MESSAGES_PER_VALUE])
    more = len(errors) - _MESSAGES_PER_VALUE
    return shown if more <= 0 else f"{shown} and {more} more"


def details(error: ValidationError) -> list[ErrorDetails]:
    """The errors without what costs much and is not shown: addresses, contexts and inputs."""
    return error.errors(include_url=False, include_context=False, include_input=False)


def row_payload(columns: tuple[str, ...], row: tuple[object, ...], *, empty_is_text: bool) -> dict[str, object]:
    """The raw values of a row by column name, whole and JSON-safe; `worker.source.raw_values` has the form.

    Args:
        columns: that the row is aligned with.
        row: its values; `ABSENT` where it carries none.
        empty_is_text: whether an absent value is an empty cell, which is null here; otherwise it is left out, as null
            is a value.
    """
    carried = zip(columns, row, strict=True)
    return {name: write_raw(value) for name, value in carried if empty_is_text or value is not ABSENT}


def _encodable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")
