"""Python values, a column at a time, in the form that asyncpg takes them.

Owns the way from what a model's type yields to what the driver encodes, and the written form of arrays. Refuses to
validate: a value that does not fit its column is the database's to refuse, or was refused before.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Column, Dialect

from worker.core.errors import RequestError
from worker.core.table_facts import ColumnFacts
from worker.database.dialect import Encoder


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
    if facts.driver_type == "timestamp":
        # SQLModel's own type yields aware values even where an older table has no time zone, which asyncpg refuses
        return lambda values: [_naive(value if process is None else process(value)) for value in values]
    if process is None:
        return _as_they_are
    if facts.type_name in {"json", "jsonb"}:
        return lambda values: [None if value is None else process(value) for value in values]
    return lambda values: [process(value) for value in values]


def _as_they_are(values: Sequence[object]) -> Sequence[object]:
    return values


def _naive(value: object) -> object:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    return value


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
