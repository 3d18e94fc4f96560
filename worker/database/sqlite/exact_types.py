"""The type under which a column's values are read and bound exactly, whatever a model says of the column.

SQLite keeps a value as an integer, a float, a text, a blob or NULL, whatever its column's type is called. Values that
mark a place in a table travel as what they are kept as: the driver changes none of these, either way, and a parameter
has neither an affinity nor a collation of its own, so that a comparison with the column has the column's.
"""

from enum import StrEnum

from sqlalchemy import ColumnElement
from sqlalchemy.types import UserDefinedType

from worker.core.errors import RequestError
from worker.core.table_facts import ColumnFacts


class Affinity(StrEnum):
    """What a column makes of the values that it is given, by the name of a type that has it."""

    INTEGER = "INTEGER"
    REAL = "REAL"
    NUMERIC = "NUMERIC"
    TEXT = "TEXT"
    BLOB = "BLOB"
    """Nothing at all."""

    @property
    def of_numbers(self) -> bool:
        """Whether a text that looks like a number becomes one."""
        return self in {Affinity.INTEGER, Affinity.REAL, Affinity.NUMERIC}


class Stored(UserDefinedType[object]):
    """A value as SQLite keeps it.

    Args:
        affinity: of its column.
    """

    cache_ok = True

    def __init__(self, affinity: Affinity) -> None:
        self.affinity = affinity

    def get_col_spec(self, **_: object) -> str:
        """A type that has the affinity."""
        return self.affinity.value


def affinity_of(facts: ColumnFacts) -> Affinity:
    """The affinity of a column.

    Raises:
        RequestError: the facts are not those of an SQLite table.
    """
    if isinstance(facts.exact_type, Stored):
        return facts.exact_type.affinity
    raise RequestError(f"Column {facts.name!r} was not read from SQLite's schema")


def as_stored(value: ColumnElement[object], facts: ColumnFacts) -> ColumnElement[object]:
    """An expression's value as the column would have it: what `column_encoder` sends is that already.

    Args:
        value: one that fits the column.
        facts: the column as the database declares it.
    """
    del facts
    return value
