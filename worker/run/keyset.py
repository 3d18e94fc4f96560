"""Walking a query by key: the next rows after a cursor, as a statement, and each row's key exactly as it is stored.

A row-value comparison on the key uses its index from the first row to the last; OFFSET would read everything it
skips, and would skip rows when the walk itself changes which rows match. Refuses a key by which rows would be skipped:
one that several rows may share, or that is NULL in some.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Row, Select, Table, literal
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute
from sqlmodel.sql.expression import SelectOfScalar

from worker.core.cursor import Cursor, read_key, write_key
from worker.core.errors import DeclarationError, UnorderedKeyError
from worker.core.table_facts import TableFacts
from worker.database.dialect import Dialect
from worker.declare.row_order import KeyColumn, KeyValues, RowOrder, row_order, table_column

AnySelect = Select[*tuple[Any, ...]]
AnyRow = Row[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class KeyedQuery:
    """A query and the key that orders its rows. Get one from `keyed_query`.

    Attributes:
        statement: the user's query, and behind its own columns those of the key.
        order: the key.
        scalar: whether a row of the user's query is one object rather than a row of columns.
    """

    statement: AnySelect
    order: RowOrder
    scalar: bool

    def rows_after(self, after: KeyValues | None) -> AnySelect:
        """The statement for all rows behind a key, in order.

        Args:
            after: the last key that was dealt with; None for the beginning.
        """
        met = self.statement if after is None else self.statement.where(self.order.after(after))
        return met.order_by(*self.order.columns)

    def next_rows(self, after: KeyValues | None, rows: int, *, lock: bool) -> AnySelect:
        """The statement for the next rows behind a key.

        Args:
            after: the last key that was dealt with; None for the beginning.
            rows: how many at most.
            lock: whether to lock them until the transaction ends, in key order, so that two walks cannot dead-lock.
        """
        met = self.rows_after(after).limit(rows)
        if not lock:
            return met
        first = self.order.columns[0]
        of = first.class_ if isinstance(first, InstrumentedAttribute) else first.table
        # an object that the session has already is brought up to what is locked
        return met.with_for_update(of=of, key_share=True).execution_options(populate_existing=True)

    def without_key(self, found: Sequence[AnyRow]) -> list[Any]:
        """The rows as the user's query has them."""
        if self.scalar:
            return [row[0] for row in found]
        width = len(found[0]) - len(self.order.columns)
        names = SimpleResultMetaData(list(found[0]._fields[:width]))
        return list(IteratorResult(names, iter([tuple(row)[:width] for row in found])).all())

    def cursor(self, last: AnyRow) -> Cursor:
        """The cursor from which the walk goes on behind a row.

        Raises:
            CursorError: the row's key has no exact form.
        """
        return {"after": write_key(tuple(last)[-len(self.order.columns) :])}


def place_of(cursor: Cursor | None) -> KeyValues | None:
    """The key behind which a walk goes on; None for the beginning."""
    return None if cursor is None else read_key(cursor.get("after"))


async def keyed_query(
    connection: AsyncConnection, dialect: Dialect, statement: AnySelect, key: object, *, resumed: bool
) -> KeyedQuery:
    """A query made ready to be walked by key; asks the catalogue about the key's columns.

    Args:
        connection: in the transaction that the first rows will be read in.
        dialect: reads the catalogue.
        statement: the user's.
        key: a column of a model or a table, or a tuple of them.
        resumed: whether the walk has begun already, and rows without a place in it were looked for.

    Raises:
        DeclarationError: the key is no column.
        UnorderedKeyError: rows would be skipped.
    """
    columns = key_columns(key)
    tables = tables_of(columns)
    facts = {table.fullname: await dialect.table_facts(connection, table) for table in tables}
    order = row_order(columns, facts)
    if len(tables) == 1:
        await _check_unique(connection, dialect, tables[0], facts, columns)
    if not resumed and _may_hold_null(columns, facts):
        await _check_nulls(connection, statement, order)
    scalar = isinstance(statement, SelectOfScalar)
    return KeyedQuery(statement.add_columns(*order.read()), order, scalar)


def key_columns(key: object) -> tuple[KeyColumn, ...]:
    """The columns of a key given as one column or a tuple of them.

    Raises:
        DeclarationError: it is no column.
    """
    columns = key if isinstance(key, tuple) else (key,)
    for column in columns:
        if not isinstance(column, InstrumentedAttribute | Column):
            raise DeclarationError(
                f"key={column!r} is no column of a model or a table. Give one, or a tuple of them, for example "
                "key=Order.id"
            )
    return columns


def tables_of(columns: Sequence[KeyColumn]) -> list[Table]:
    """The tables that a key's columns are in."""
    parts = [part for column in columns if (part := table_column(column)) is not None]
    return list({part.table.fullname: part.table for part in parts}.values())


def check_walkable(statement: AnySelect) -> None:
    """Refuse a query that cannot be walked by key.

    Raises:
        DeclarationError: it has an ORDER BY, LIMIT or OFFSET of its own.
    """
    own_order = bool(statement._order_by_clauses)  # noqa: SLF001 - SQLAlchemy offers no public way to see it
    own_limit = statement._limit_clause is not None or statement._offset_clause is not None  # noqa: SLF001 - likewise
    if own_order or own_limit:
        raise DeclarationError(
            "ctx.chunks() and ctx.stream() order and limit the query themselves, by its key. Leave out order_by(), "
            "limit() and offset(), for example ctx.chunks(select(Order).where(Order.status == 'open'), key=Order.id)"
        )


async def _check_unique(
    connection: AsyncConnection,
    dialect: Dialect,
    table: Table,
    facts: dict[str, TableFacts],
    columns: Sequence[KeyColumn],
) -> None:
    names = _names(columns)
    if any(names.issuperset(unique.columns) for unique in facts[table.fullname].unique_keys):
        return
    if not await dialect.may_be_unique(connection, table, names):
        raise UnorderedKeyError(
            f"Several rows of table {table.fullname!r} may share one key ({', '.join(sorted(names))}), and those at "
            "the end of a chunk would be skipped: nothing in the database makes it unique. Walk by a unique key, for "
            "example the primary key, or add its columns: key=(Order.created_at, Order.id)"
        )


async def _check_nulls(connection: AsyncConnection, statement: AnySelect, order: RowOrder) -> None:
    only = statement.with_only_columns(literal(1), maintain_column_froms=True)
    if (await connection.execute(only.where(order.holds_null()).limit(1))).first() is not None:
        names = ", ".join(sorted(_names(order.columns)))
        raise UnorderedKeyError(
            f"Rows of this query have NULL in their key ({names}), which has no place in an order: they would be "
            "skipped. Walk by a NOT NULL key, or leave them out, for example .where(col(Order.number).is_not(None))"
        )


def _may_hold_null(columns: Sequence[KeyColumn], facts: dict[str, TableFacts]) -> bool:
    return any(
        part is None or (known := facts[part.table.fullname].columns.get(part.name)) is None or known.nullable
        for part in map(table_column, columns)
    )


def _names(columns: Sequence[KeyColumn]) -> set[str]:
    return {part.name for column in columns if (part := table_column(column)) is not None}
