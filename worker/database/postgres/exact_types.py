"""The types under which a column's values are read and bound exactly, whatever a model says of the column.

A model may be narrower than its table (an INTEGER over a bigint), rounder (NUMERIC(12, 2) over numeric(12, 4)), or of
another order (VARCHAR over citext or an enumeration). Values that mark a place in a table must neither be rounded nor
be compared in another order than the table's. Owns that choice, made from what the catalogue says. Refuses to validate.
"""

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Cast,
    ColumnElement,
    Dialect,
    Double,
    LargeBinary,
    Numeric,
    String,
    Text,
    Uuid,
    cast,
)
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType

from worker.core.table_facts import ColumnFacts


class CatalogueType(UserDefinedType[object]):
    """A type in a cast, as the catalogue writes it.

    Args:
        written: such as `character varying`, `odd."Mood"`, `int4[]`.
    """

    cache_ok = True

    def __init__(self, written: str) -> None:
        self.written = written

    def get_col_spec(self, **_: object) -> str:
        """The text after AS in a CAST."""
        return self.written


class Written(TypeDecorator[Any]):
    """A value in its written form, for types that no Python type holds exactly: it travels as text, both ways.

    Dates and times are among them: Python has no infinity, no year before 1 and no 24:00, and asyncpg takes
    9999-12-31 for infinity and 0001-01-01 for minus infinity.

    Args:
        written: the type, as the catalogue writes it.
    """

    impl = Text
    cache_ok = True

    def __init__(self, written: str) -> None:
        super().__init__()
        self.written = written

    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:
        """A value of the type that a driver has for it, as text."""
        del dialect
        match value:
            case None | str():
                return value
            case datetime() | date() | time():
                return value.isoformat()
            case timedelta():
                return f"{value.days} days {value.seconds} seconds {value.microseconds} microseconds"
            case _:
                return str(value)

    def bind_expression(self, bindvalue: BindParameter[Any]) -> Cast[object]:
        """A parameter: sent as text, compared as what it is."""
        return cast(bindvalue, CatalogueType(self.written))

    def column_expression(self, column: ColumnElement[Any]) -> Cast[str]:
        """A column that is read."""
        return cast(column, Text())


_NATIVE: Final[Mapping[str, TypeEngine[Any]]] = {
    "bool": Boolean(),
    # the widest: a narrower column compares with it by its own index
    **dict.fromkeys(("int2", "int4", "int8"), BigInteger()),
    **dict.fromkeys(("float4", "float8"), Double()),
    "numeric": Numeric(),
    "bytea": LargeBinary(),
    "uuid": Uuid(),
}
_PLAIN_TEXT: Final = frozenset({"character varying", "text"})


def exact_type(type_name: str, driver_type: str) -> TypeEngine[Any]:
    """The type under which a column's values come and go as they are.

    Text has no collation of its own here, so that a comparison with the column has the column's.

    Args:
        type_name: as in `ColumnFacts`.
        driver_type: likewise.
    """
    if type_name in _PLAIN_TEXT:
        return String()
    return _NATIVE.get(driver_type) or Written(type_name)


def as_stored(value: ColumnElement[object], facts: ColumnFacts) -> ColumnElement[object]:
    """An expression's value as the column would have it: rounded to its digits and its fractions of a second.

    Args:
        value: one that fits the column, which a cast to a text type with a length does not see to.
        facts: the column as the database declares it.
    """
    return cast(value, CatalogueType(facts.full_type))
