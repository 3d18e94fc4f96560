"""Python values, a column at a time, in the form that asyncpg takes them.

Owns the way from what a model's type yields to what the driver encodes, and the written form of arrays. Refuses to
validate: a value that does not fit its column is the database's to refuse, or was refused before.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

from sqlalchemy import Column, Dialect

from worker.core.errors import RequestError
from worker.core.table_facts import ColumnFacts
from worker.database.dialect import Encoder

_MOMENTS: Final = frozenset({"date", "timestamp", "timestamptz"})


def sent_type(facts: ColumnFacts) -> str:
    """The built-in type as which a column's values are sent.

    Moments travel in their written form: the driver takes 9999-12-31 for infinity and 0001-01-01 for minus infinity,
    and the end of time that many tables hold would silently become another one.
    """
    return "text" if facts.driver_type in _MOMENTS else facts.driver_type


def column_encoder(column: Column[object], facts: ColumnFacts, dialect: Dialect) -> Encoder:
    """How one column's values travel.

    Args:
        column: its SQLAlchemy type says what values the model has (an Enum's members, a TypeDecorator's own).
        facts: what the database's column is.
        dialect: of the engine that will send them.

    Returns:
        A function from the model's values to the driver's. None stays None, in a JSON column too (SQL's NULL, never
        JSON's), unless a TypeDecorator says otherwise.
    """
    process = column.type.dialect_impl(dialect).bind_processor(dialect)
    if facts.array:
        return _array_encoder(column.name, process)
    if facts.driver_type in _MOMENTS:
        write = _written_naive if facts.driver_type == "timestamp" else _written_moment
        return lambda values: [write(value if process is None else process(value)) for value in values]
    if process is None:
        return _as_they_are
    if facts.type_name in {"json", "jsonb"}:
        return lambda values: [None if value is None else process(value) for value in values]
    return lambda values: [process(value) for value in values]


def _as_they_are(values: Sequence[object]) -> Sequence[object]:
    return values


def _written_moment(value: object) -> object:
    return value.isoformat() if isinstance(value, date) else value


def _written_naive(value: object) -> object:
    # SQLModel's own type yields aware values even where an older table has no time zone: those are moments in UTC
    if isinstance(value, datetime) and value.tzinfo is not None:
        value = value.astimezone(UTC).replace(tzinfo=None)
    return _written_moment(value)


def _array_encoder(name: str, process: Callable[[object], object] | None) -> Encoder:
    def encode_one(value: object) -> str | None:
        # A string is an array's written form already, as a CSV cell has it.
        if value is None or isinstance(value, str):
            return value
        processed = value if process is None else process(value)
        return processed if processed is None or isinstance(processed, str) else _written(processed, name)

    return lambda values: [encode_one(value) for value in values]


def _written(value: object, name: str) -> str:
    """An array, or an item of one, as PostgreSQL writes it."""
    if value is None:
        return "NULL"
    if isinstance(value, list | tuple):
        return "{" + ",".join([_written(item, name) for item in value]) + "}"
    text = _item(value)
    if text is None:
        raise RequestError(
            f"Column {name!r} is an array, and an item of it is {value!r} of type {type(value).__name__}, which cannot "
            "be put into one. Give text, numbers, booleans, dates, times, UUIDs or bytes, for example [1, 2, 3]"
        )
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _item(value: object) -> str | None:
    match value:
        case str():
            return value
        case bool() | int() | float() | Decimal() | UUID():
            return str(value)
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return f"{value.days} days {value.seconds} seconds {value.microseconds} microseconds"
        case bytes() | bytearray() | memoryview():
            return "\\x" + value.hex()
    return None
