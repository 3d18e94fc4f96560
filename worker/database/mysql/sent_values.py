"""Python values, a column at a time, in the form that they are sent in.

Owns the way from what a model's type yields to what a column's exact type binds, and from there into JSON. Decimals
and floats go as text: a literal such as 1E+3 would be a float, and a float's literal is for the server to round.
Refuses to validate: a value that does not fit its column is the database's to refuse, or was refused before.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Column, Dialect

from worker.core.table_facts import ColumnFacts
from worker.database.dialect import Encoder
from worker.database.mysql.exact_types import written_moment

_MOMENTS: Final = frozenset({"date", "time", "timestamp", "timestamptz"})
_INTEGERS: Final = frozenset({"bool", "int2", "int4", "int8"})


def column_encoder(column: Column[object], facts: ColumnFacts, dialect: Dialect) -> Encoder:
    """How one column's values travel.

    Args:
        column: its SQLAlchemy type says what values the model has (an Enum's members, a TypeDecorator's own).
        facts: what the database's column is.
        dialect: of the engine that will send them.

    Returns:
        A function from the model's values to those that the column's exact type binds. None stays None, in a JSON
        column too (SQL's NULL, never JSON's), unless a TypeDecorator says otherwise.
    """
    process = column.type.dialect_impl(dialect).bind_processor(dialect)
    finish = _finish(facts)
    if process is None:
        return _as_they_are if finish is None else lambda values: [finish(value) for value in values]
    if facts.type_name == "json":
        return lambda values: [None if value is None else process(value) for value in values]
    if finish is None:
        return lambda values: [process(value) for value in values]
    return lambda values: [finish(process(value)) for value in values]


def sendable(values: Sequence[object]) -> Sequence[object]:
    """Encoded values as text, integers, bytes and None: what a statement can hold exactly."""
    if {str, int, type(None), bytes}.issuperset(map(type, values)):
        return values
    return [_sendable(value) for value in values]


def in_json(values: Sequence[object]) -> Sequence[object]:
    """Sendable values as JSON has them: bytes in hexadecimal digits, integers as text."""
    # a server may read a number of JSON as a float
    kinds = set(map(type, values))
    if kinds <= {str, type(None)}:
        return values
    return [_in_json(value) for value in values]


def _as_they_are(values: Sequence[object]) -> Sequence[object]:
    return values


def _finish(facts: ColumnFacts) -> Callable[[Any], object] | None:
    if facts.driver_type in _MOMENTS:
        return written_moment
    if facts.driver_type in _INTEGERS:
        return _integer
    match facts.driver_type:
        case "bytea":
            return _bytes
        case "uuid":
            return _text
    return None


def _integer(value: object) -> object:
    match value:
        case bool():
            return int(value)
        case bytes():
            return int.from_bytes(value)
    return value


def _bytes(value: object) -> object:
    match value:
        case str():
            return value.encode()
        case bytearray() | memoryview():
            return bytes(value)
    return value


def _text(value: object) -> object:
    return None if value is None else str(value)


def _sendable(value: object) -> object:
    match value:
        case None | int() | bytes():
            # a member of an enumeration of integers is one, and a bool
            return int(value) if isinstance(value, int) else value
        case Decimal():
            return format(value, "f") if value.is_finite() else str(value)
        case float():
            return repr(float(value))
        case _:
            return str(value)


def _in_json(value: object) -> object:
    match value:
        case None | str():
            return value
        case bytes():
            return value.hex()
        case _:
            return str(value)
