"""Cursors: the JSON-safe values from which the next chunk starts, and the exact way keys travel in them.

A key value must come back as it went: a rounded timestamp or a float of a decimal would skip rows. So each value is
written with its type, and one that has no exact form is refused when written, not when read.
"""

from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

from worker.core.errors import HeavyliftError

Cursor = dict[str, object]
"""A JSON object. What it holds is the business of whoever walks: a key for a table, an offset for a file."""


class CursorError(HeavyliftError):
    """A cursor that cannot be written, or that was damaged. The message says which value."""


_WRITERS: dict[type, tuple[str, Callable[[object], object]]] = {
    bool: ("bool", lambda value: value),
    int: ("int", str),  # JSON readers of other languages lose integers beyond 2^53
    str: ("str", lambda value: value),
    float: ("float", lambda value: float(str(value)).hex()),
    Decimal: ("decimal", str),
    datetime: ("datetime", lambda value: value.isoformat() if isinstance(value, datetime) else value),
    date: ("date", lambda value: value.isoformat() if isinstance(value, date) else value),
    time: ("time", lambda value: value.isoformat() if isinstance(value, time) else value),
    timedelta: (
        "timedelta",
        lambda value: str(value // timedelta(microseconds=1)) if isinstance(value, timedelta) else value,
    ),
    UUID: ("uuid", str),
    bytes: ("bytes", lambda value: value.hex() if isinstance(value, bytes) else value),
}

_READERS: dict[str, Callable[[str], object]] = {
    "int": int,
    "str": str,
    "float": float.fromhex,
    "decimal": Decimal,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda text: timedelta(microseconds=int(text)),
    "uuid": UUID,
    "bytes": bytes.fromhex,
}


def write_key(values: Sequence[object]) -> list[list[object]]:
    """A key's values, each as `[type, exact form]`.

    Raises:
        CursorError: a value is NULL, NaN or of a type without an exact form.
    """
    return [_write(value) for value in values]


def read_key(written: object) -> tuple[object, ...]:
    """The values that `write_key` was given.

    Raises:
        CursorError: it is not what `write_key` returns.
    """
    if not isinstance(written, list):
        raise CursorError(f"A key in a cursor is a list of [type, value] pairs, not {written!r}")
    return tuple(_read(pair) for pair in written)


def _write(value: object) -> list[object]:
    # drivers have UUIDs of their own, as asyncpg does; any other subclass may order itself by other rules
    writer = _WRITERS.get(UUID if isinstance(value, UUID) else type(value))
    if writer is None:
        raise CursorError(
            f"A key column holds {value!r} of type {type(value).__name__}, which has no exact place in an order. "
            "Use a NOT NULL key of numbers, text, dates, times, UUIDs or bytes, for example key=Order.id"
        )
    name, write = writer
    if value != value:  # noqa: PLR0124 - only NaN differs from itself
        raise CursorError("A key column holds NaN, after which no row can be found. Use another key")
    return [name, write(value)]


def _read(pair: object) -> object:
    match pair:
        case ["bool", bool(value)]:
            return value
        case [str(name), str(text)] if name in _READERS:
            try:
                return _READERS[name](text)
            except (ValueError, ArithmeticError) as error:
                raise CursorError(f"The cursor holds {text!r}, which is no {name}") from error
        case _:
            raise CursorError(f"The cursor holds {pair!r}, which is no [type, value] pair")
