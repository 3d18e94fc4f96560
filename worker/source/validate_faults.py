"""How a row that cannot be used is told to a person: the reason in one line, the payload for a replay.

Owns the wording of reasons and the JSON-safe form of raw values. Refuses to decide what is a fault.
"""

import reprlib
from collections.abc import Mapping
from math import isfinite
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails, to_jsonable_python

from worker.source.batch import ABSENT

_GIVEN_LENGTH: Final = 80
_MESSAGE_LENGTH: Final = 300
_MESSAGES_PER_VALUE: Final = 3
# orjson refuses to write what is nested deeper than 254 levels; the rest is for whoever wraps the payload.
_PAYLOAD_DEPTH: Final = 200
_LEAST_INTEGER: Final = -(2**63)
_GREATEST_INTEGER: Final = 2**64 - 1
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


def payload(columns: tuple[str, ...], row: tuple[object, ...]) -> dict[str, object]:
    """The raw values of a row by column name, whole and JSON-safe; None where the row carries none."""
    return {name: _json_safe(value) for name, value in zip(columns, row, strict=True)}


def _json_safe(value: object, depth: int = 0) -> object:
    if isinstance(value, str):
        return _encodable(value)
    if value is None or value is ABSENT or isinstance(value, int | float):
        return _json_safe_number(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _json_safe_container(value, depth + 1)
    # JSON has no dates, decimals or UUIDs: they are written as validation reads them back.
    return _json_safe(to_jsonable_python(value, fallback=repr), depth + 1)


def _json_safe_number(value: object) -> object:
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if isinstance(value, int):
        # The ledger's JSON has 64 bits for an integer; Python writes only so many decimal digits.
        small = _LEAST_INTEGER <= value <= _GREATEST_INTEGER
        return value if small else str(value) if value.bit_length() < _DECIMAL_BITS else hex(value)
    return None


def _json_safe_container(value: object, depth: int) -> object:
    if depth > _PAYLOAD_DEPTH:
        return f"(left out: nested deeper than {_PAYLOAD_DEPTH} levels)"
    if isinstance(value, Mapping):
        return {_json_key(key): _json_safe(item, depth) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_json_safe(item, depth) for item in value]
    return None


def _json_key(key: object) -> str:
    return _encodable(key) if isinstance(key, str) else show(key)


def _encodable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")
