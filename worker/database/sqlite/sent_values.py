"""Python values, a column at a time, in the form in which SQLite keeps them.

Owns the way from what a model's type yields to integers, floats, texts and blobs, and the refusal of a model whose
texts the column would make numbers of. Refuses to validate: a value that does not fit was refused before.
"""

from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import JSON, Column, Dialect, String, Uuid

from worker.core.errors import RequestError
from worker.core.table_facts import ColumnFacts
from worker.database.dialect import Encoder
from worker.database.sqlite.declared_types import LARGEST, SMALLEST, undecorated
from worker.database.sqlite.exact_types import Affinity, affinity_of


def column_encoder(column: Column[object], facts: ColumnFacts, dialect: Dialect) -> Encoder:
    """How one column's values travel.

    Args:
        column: its SQLAlchemy type says what values the model has (an Enum's members, a TypeDecorator's own).
        facts: what the database's column is.
        dialect: of the engine that will send them.

    Returns:
        A function from the model's values to what the column will hold. None stays None, in a JSON column too (SQL's
        NULL, never JSON's), unless a TypeDecorator says otherwise.

    Raises:
        RequestError: the model has texts where the column would make numbers of some.
    """
    affinity, plain = affinity_of(facts), undecorated(column.type)
    if affinity.of_numbers and isinstance(plain, String | Uuid):
        raise RequestError(
            f"Column {column.name!r} holds text by its model, and numbers ({facts.full_type}) by its declared type: "
            "SQLite would keep the text '007' as 7. Declare it TEXT or VARCHAR (CHAR(32) for a UUID), or let the model "
            "have numbers or moments in it, as the table does"
        )
    process = column.type.dialect_impl(dialect).bind_processor(dialect)
    if process is None:
        return lambda values: [kept(value, affinity) for value in values]
    if isinstance(plain, JSON):
        return lambda values: [None if value is None else process(value) for value in values]
    return lambda values: [kept(process(_in_utc(value)), affinity) for value in values]


def _in_utc(value: object) -> object:
    # SQLAlchemy's type drops the offset: a moment in Rome would become the same hour in London
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo is not None else value


def kept(value: object, affinity: Affinity) -> object:
    """A value as a column with an affinity would keep it, where it is one of the column's kind."""
    if value is None or isinstance(value, str | bytes):
        return value
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, int):
        return _kept_integer(int(value), affinity)
    if isinstance(value, float) and affinity in {Affinity.INTEGER, Affinity.NUMERIC}:
        return int(value) if value.is_integer() and SMALLEST < value < LARGEST else value
    return value


def _kept_integer(value: int, affinity: Affinity) -> object:
    if affinity is Affinity.REAL:
        return float(value)
    return str(value) if affinity is Affinity.TEXT else value
