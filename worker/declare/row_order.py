"""The order of a table's rows by a key: reading key values exactly, and comparing rows with them.

Owns the comparisons that walks are made of. Refuses to know which rows are meant, and in which chunks.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Integer,
    Label,
    Table,
    Values,
    and_,
    column,
    literal,
    or_,
    tuple_,
    type_coerce,
)
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.elements import Tuple
from sqlalchemy.types import NULLTYPE, TypeEngine

from worker.core.table_facts import ColumnFacts, TableFacts

KeyValues = tuple[object, ...]
KeyColumn = Column[Any] | InstrumentedAttribute[Any]
Compare = Callable[[Any, Any], ColumnElement[bool]]

NAME: Final = "heavylift_key_{}"
"""What a key's values are called where they stand beside a query's own columns."""

PLACE: Final = "heavylift_place"
"""In a list of keys, which of them a row is: 0 for the first."""


class KeyList(Values):
    """Keys as a table. Databases differ in how they spell one: a dialect may compile it its own way."""

    inherit_cache = True


@dataclass(frozen=True, slots=True)
class RowOrder:
    """Columns that order rows.

    Attributes:
        columns: in the order of their index.
        types: under which the values of each are read and bound, so that they stay exactly what they are.
        by_row: whether several columns are compared as one row, `(a, b) > (1, 2)`; else column by column.
    """

    columns: tuple[KeyColumn, ...]
    types: tuple[TypeEngine[Any], ...]
    by_row: bool = True

    def read(self) -> list[Label[object]]:
        """The key's values, to be selected."""
        pairs = zip(self.columns, self.types, strict=True)
        return [type_coerce(part, type_).label(NAME.format(at)) for at, (part, type_) in enumerate(pairs)]

    def after(self, key: KeyValues) -> ColumnElement[bool]:
        """Whether a row comes after a key."""
        return self._compared(operator.gt, operator.gt, key)

    def until(self, key: KeyValues) -> ColumnElement[bool]:
        """Whether a row is a key's, or comes before it."""
        return self._compared(operator.lt, operator.le, key)

    def since(self, key: KeyValues) -> ColumnElement[bool]:
        """Whether a row is a key's, or comes after it."""
        return self._compared(operator.gt, operator.ge, key)

    def among(self, keys: Sequence[KeyValues]) -> ColumnElement[bool]:
        """Whether a row is one of the keys'. Each value is a parameter: a statement takes some 30,000."""
        row: Any = self.columns[0] if len(self.columns) == 1 else tuple_(*self.columns)
        found: ColumnElement[bool] = row.in_([self._bound(key) for key in keys])
        return found

    def holds_null(self) -> ColumnElement[bool]:
        """Whether a row has NULL in its key, and so no place in the order."""
        return or_(*(part.is_(None) for part in self.columns))

    def listed(self, keys: Sequence[KeyValues]) -> "KeyList":
        """The keys as a table to join with, each with its `PLACE`."""
        parts = [column(NAME.format(at), type_) for at, type_ in enumerate(self.types)]
        listed = KeyList(column(PLACE, Integer), *parts, name="heavylift_keys")
        return listed.data([(place, *key) for place, key in enumerate(keys)])

    def matches(self, listed: "KeyList") -> ColumnElement[bool]:
        """Whether a row is the one that a row of `listed` names, as the database compares."""
        return and_(*(part == listed.c[NAME.format(at)] for at, part in enumerate(self.columns)))

    def _compared(self, beyond: Compare, last: Compare, key: KeyValues) -> ColumnElement[bool]:
        # one column is compared as itself: a row of one is no row everywhere
        if len(self.columns) == 1:
            return last(self.columns[0], self._bound(key))
        if self.by_row:
            return last(tuple_(*self.columns), self._bound(key))
        # an index is followed for (a > 1) OR (a = 1 AND b > 2), range by range
        bound = [literal(value, type_) for value, type_ in zip(key, self.types, strict=True)]
        ranges = []
        for at, part in enumerate(self.columns):
            same = [before == value for before, value in zip(self.columns[:at], bound[:at], strict=True)]
            compare = last if at == len(self.columns) - 1 else beyond
            ranges.append(and_(*same, compare(part, bound[at])))
        return or_(*ranges)

    def _bound(self, key: KeyValues) -> ColumnElement[object] | Tuple:
        typed = [literal(value, type_) for value, type_ in zip(key, self.types, strict=True)]
        return typed[0] if len(typed) == 1 else tuple_(*typed)


def row_order(columns: Sequence[KeyColumn], facts: Mapping[str, TableFacts]) -> RowOrder:
    """The order by some columns.

    Args:
        columns: of tables or models.
        facts: by table; a column of a table without facts (of a subquery, say) goes by its own type.
    """
    by_row = all(known.compares_rows for known in facts.values())
    return RowOrder(tuple(columns), tuple(_type_of(part, facts) for part in columns), by_row)


def table_column(part: KeyColumn) -> Column[Any] | None:
    """The column of a table that a key's part is; None where it is an expression, or of a subquery."""
    found: object = part if isinstance(part, Column) else part.property.columns[0]
    if not isinstance(found, Column):
        return None
    owner: object = found.table
    return found if isinstance(owner, Table) else None


def _type_of(part: KeyColumn, facts: Mapping[str, TableFacts]) -> TypeEngine[Any]:
    found = table_column(part)
    known = None if found is None else facts.get(found.table.fullname)
    if found is None or known is None or found.name not in known.columns:
        return part.type
    return exact_type(known.column(found.name))


def exact_type(facts: ColumnFacts) -> TypeEngine[Any]:
    """The type under which a column's values come and go as they are; with none said, as the driver has them.

    A model may be narrower than its table (an INTEGER over a bigint), rounder (NUMERIC(12, 2) over numeric(12, 4)), or
    of another order (VARCHAR over an enumeration). Values that mark a place in a table must neither be rounded nor be
    compared in another order than the table's.
    """
    return facts.exact_type if isinstance(facts.exact_type, TypeEngine) else NULLTYPE
