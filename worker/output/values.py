r"""Values of rows as a file can hold them: what JSON has, or text that reads back as the same value.

Owns the written form of each type, the same in every format: decimals as plain digits; floats that JSON has no number
for as `NaN` and `Infinity`; dates, times and durations as ISO 8601, with the offset where there is one; bytes as `\x`
and hexadecimal digits; a member of an enumeration as its value, which is what a model reads. Refuses a value without
an exact form, rather than write one that only looks like it.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from math import isfinite
from types import NoneType
from typing import Any, Final
from uuid import UUID

import orjson

from worker.core.errors import OutputError
from worker.source.column_bytes import MARK

_LEAST_INTEGER: Final = -(2**63)
_GREATEST_INTEGER: Final = 2**64 - 1
_AS_THEY_ARE: Final = frozenset({str, bool, NoneType})
_OFFSET: Final = len("+00:00")


def forms(column: str, values: Sequence[object]) -> Sequence[object]:
    """One column's values as what JSON has: text, numbers, booleans, None, and lists and objects of them.

    Args:
        column: its name, for the message.
        values: as the database's driver or SQLAlchemy returns them.

    Raises:
        OutputError: a value has no exact form.
    """
    kinds = set(map(type, values))
    if kinds <= _AS_THEY_ARE:
        return values
    kinds.discard(NoneType)
    try:
        if len(kinds) == 1:
            form = _form_of(kinds.pop())
            return [None if value is None else form(value) for value in values]
        return [_form(value) for value in values]
    except _NoFormError as error:
        raise OutputError(
            f"Column {column!r} holds a value of type {error}, which has no exact form in a file. A job of your own "
            "can turn it into text first"
        ) from error


def json_text(value: object) -> str:
    """JSON text, without spaces, of what `forms` returns."""
    return orjson.dumps(value).decode()


def one_line(document: str) -> str:
    """JSON text as the database has it, in one line: inside of JSON's strings no line break can stand as it is."""
    return document.replace("\r", " ").replace("\n", " ")


class _NoFormError(Exception):
    """A value that has no exact form; its text is the value's type."""


def _form(value: object) -> object:
    return _form_of(type(value))(value)


def _form_of(kind: type) -> Callable[[Any], object]:
    if kind in _FORMS:
        return _FORMS[kind]
    if issubclass(kind, Enum):
        return _enum
    # A driver may return subclasses of its own, as asyncpg does for UUIDs.
    return next((_FORMS[base] for base in kind.__mro__ if base in _FORMS), _refuse)


def _refuse(value: object) -> object:
    raise _NoFormError(f"{type(value).__module__}.{type(value).__qualname__}")


def _same(value: object) -> object:
    return value


def _enum(value: Enum) -> object:
    return _form(value.value)


def _integer(value: int) -> int | str:
    # A larger one is text: most readers of JSON would round it.
    return int(value) if _LEAST_INTEGER <= value <= _GREATEST_INTEGER else str(value)


def _float(value: float) -> float | str:
    if isfinite(value):
        return float(value)
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"  # noqa: PLR0124 - NaN alone does


def _decimal(value: Decimal) -> str:
    return format(value, "f")


def _moment(value: dt.datetime) -> str:
    text = value.isoformat()
    # Before there were time zones, local time was off by odd seconds, and few readers take such an offset.
    return text if value.tzinfo is None or text[-_OFFSET] in "+-" else value.astimezone(dt.UTC).isoformat()


def _iso(value: dt.date | dt.time) -> str:
    return value.isoformat()


def _duration(value: dt.timedelta) -> str:
    # In days and parts of one: pydantic's own form has years, which are no fixed time to a database.
    size = abs(value)
    hours, seconds = divmod(size.seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    fraction = f".{size.microseconds:06d}" if size.microseconds else ""
    return f"{'-' if value < dt.timedelta() else ''}P{size.days}DT{hours}H{minutes}M{seconds}{fraction}S"


def _hexadecimal(value: bytes | bytearray | memoryview) -> str:
    return MARK + value.hex()


def _list(value: Sequence[object]) -> list[object]:
    return [_form(item) for item in value]


def _object(value: Mapping[object, object]) -> dict[str, object]:
    for key in value:
        if not isinstance(key, str):
            _refuse(key)
    return {str(key): _form(item) for key, item in value.items()}


_FORMS: Final[Mapping[type, Callable[[Any], object]]] = {
    **dict.fromkeys((str, bool, NoneType), _same),
    int: _integer,
    float: _float,
    Decimal: _decimal,
    dt.datetime: _moment,
    **dict.fromkeys((dt.date, dt.time), _iso),
    dt.timedelta: _duration,
    UUID: str,
    **dict.fromkeys((bytes, bytearray, memoryview), _hexadecimal),
    **dict.fromkeys((list, tuple), _list),
    dict: _object,
}
