"""Walking a registered table by key, span by span: where the next span ends, and which rows lie in it.

```sql
SELECT k0, count(*) OVER () FROM (SELECT id AS k0, id AS o0 FROM t WHERE id > :after AND id <= :until
                                  ORDER BY id LIMIT :rows) AS span ORDER BY o0 DESC LIMIT 1
```

A span is so many rows in key order, whether they match what the job looks for or not. So a chunk stays short however
few rows match, and what the job changes cannot move the walk. The walk's end is frozen when it starts: rows that are
added behind it while it goes on are not chased.

Key values travel as the database has them, past the model's types: a model may say `integer` of a `bigint`, or know
nothing of a collation, and a value that came back changed would skip rows. See `worker.declare.row_order.exact_type`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Select, Table, and_, func, select, true
from sqlalchemy.types import NULLTYPE, TypeEngine

from worker.core.cursor import Cursor, CursorError, read_key, write_key
from worker.core.errors import RequestError
from worker.core.table_facts import TableFacts
from worker.declare.row_order import KeyValues, RowOrder, exact_type

__all__ = ["KeyValues", "Span", "Walk", "WalkCursor", "primary_walk", "walk_by"]

_ORDER: Final = "heavylift_order_{}"
"""What a key's columns are called where they stand for their order alone, beside their values."""


@dataclass(frozen=True, slots=True)
class Walk:
    """A table and the unique, NOT NULL columns that order it.

    Attributes:
        table: the registered table.
        key: the columns, in the order of their index.
        base: which rows the walk is about, by the key's first column; None for all. Others are never visited, where
            every row that is meant is one of these.
        types: under which the key's values are read and bound; where there are none, as the driver gives and takes
            them.
        by_row: whether a key of several columns is compared as one row; see `RowOrder`.
    """

    table: Table
    key: tuple[Column[object], ...]
    base: ColumnElement[bool] | None = None
    types: tuple[TypeEngine[Any], ...] = ()
    by_row: bool = True

    @property
    def row_order(self) -> RowOrder:
        """The order in which rows are met."""
        return RowOrder(self.key, self.types or (NULLTYPE,) * len(self.key), self.by_row)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the key's columns: what a saved cursor must have been written for."""
        return tuple(column.name for column in self.key)

    def last(self) -> Select[KeyValues]:
        """The statement that finds the last key of the walk."""
        return self._keys().where(self._based()).order_by(*(column.desc() for column in self.key)).limit(1)

    def keys(self) -> Select[KeyValues]:
        """The statement for all keys, in order."""
        return self._keys().order_by(*self.key)

    def edge(self, after: KeyValues | None, until: KeyValues, rows: int) -> Select[KeyValues]:
        """The statement that finds the end of the next span: its last key, then how many rows it has; or no row.

        Args:
            after: the last key that was dealt with; None for the beginning.
            until: the last key of the walk.
            rows: how many at most.
        """
        order = [column.label(_ORDER.format(at)) for at, column in enumerate(self.key)]
        inside = and_(self._based(), self.between(after, until))
        # counted and turned round behind the limit: a number of each row might be made of all that are left
        span = select(*self.row_order.read(), *order).where(inside).order_by(*self.key).limit(rows).subquery("span")
        key, place = list(span.c)[: len(order)], list(span.c)[len(order) :]
        return select(*key, func.count().over()).order_by(*(column.desc() for column in place)).limit(1)

    def between(self, after: KeyValues | None, upto: KeyValues) -> ColumnElement[bool]:
        """Whether a row's key lies after one key, and not after another."""
        upper = self.row_order.until(upto)
        return upper if after is None else and_(self.row_order.after(after), upper)

    def within(self, first: KeyValues, last: KeyValues) -> ColumnElement[bool]:
        """Whether a row's key is one of two keys, or lies between them."""
        return and_(self.row_order.since(first), self.row_order.until(last))

    def rows_of(self, keys: Sequence[KeyValues]) -> Select[KeyValues]:
        """The statement for the rows of some keys: the key's values, then all columns."""
        columns: list[ColumnElement[Any]] = [*self.row_order.read(), *self.table.columns]
        return select(*columns).where(self.row_order.among(keys))

    def _keys(self) -> Select[KeyValues]:
        # how many columns there are is not known to a type checker
        return select(*self.row_order.read())  # type: ignore[return-value]

    def _based(self) -> ColumnElement[bool]:
        return true() if self.base is None else self.base


@dataclass(frozen=True, slots=True)
class Span:
    """One chunk of a walk over a table.

    Attributes:
        walk: the walk.
        condition: whether a row lies in this span and is meant: the span's bounds, and the job's own condition.
        matching: the job's own condition alone.
        rows: how many rows the span has, meant or not; at least 1.
        number: 1 for the run's first chunk.
        keep: what the job wants to find in `ctx.kept` when the run goes on; saved with the cursor when the chunk
            commits. JSON-safe; starts as what the chunk before had.
    """

    walk: Walk
    condition: ColumnElement[bool]
    matching: ColumnElement[bool]
    rows: int
    number: int
    keep: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WalkCursor:
    """Where a walk stands.

    Attributes:
        order: the names of the columns that the keys are of; empty at the beginning.
        after: the last key that was dealt with; None at the beginning.
        until: the last key of the walk; None before the first look at the table.
        keep: the job's own.
    """

    order: tuple[str, ...]
    after: KeyValues | None
    until: KeyValues | None
    keep: dict[str, object]

    @classmethod
    def parse(cls, cursor: Cursor | None) -> "WalkCursor":
        """A cursor out of its JSON form.

        Raises:
            CursorError: it is not one of a walk.
        """
        if cursor is None:
            return cls((), None, None, {})
        match cursor:
            case {"order": [*order], "until": until, "keep": dict(keep)}:
                after = cursor.get("after")
                return cls(tuple(map(str, order)), None if after is None else read_key(after), read_key(until), keep)
        raise CursorError(f"The saved cursor {cursor!r} is not one of a walk over a table; start a new run")

    def dump(self) -> Cursor:
        """The JSON form."""
        written = {"after": self.after, "until": self.until}
        keys = {name: write_key(key) for name, key in written.items() if key is not None}
        return {"order": list(self.order), **keys, "keep": self.keep}


def primary_walk(table: Table, facts: TableFacts) -> Walk:
    """The walk of a table by its primary key.

    Raises:
        RequestError: it has none, so it cannot be walked in bounded chunks.
    """
    primary = next((key for key in facts.unique_keys if key.primary), None)
    if primary is None:
        raise RequestError(
            f"Table {table.fullname!r} has no primary key, so it cannot be walked in chunks. Add one, for example "
            f"ALTER TABLE {table.fullname} ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
        )
    return walk_by(table, tuple(table.columns[name] for name in primary.columns), facts)


def walk_by(
    table: Table, key: tuple[Column[object], ...], facts: TableFacts, base: ColumnElement[bool] | None = None
) -> Walk:
    """The walk of a table by some of its columns.

    Args:
        table: the registered table.
        key: unique together, and NOT NULL.
        facts: what the database says of it.
        base: which rows the walk is about.
    """
    types = tuple(exact_type(facts.column(column.name)) for column in key)
    return Walk(table, key, base, types, facts.compares_rows)
