"""Walking a query by key: the next rows after a cursor, as a statement.

A row-value comparison on the key uses its index from the first row to the last; OFFSET would read everything it
skips, and would skip rows when the walk itself changes which rows match.
"""

from collections.abc import Sequence
from typing import TypeVar

from sqlalchemy import Table, tuple_
from sqlalchemy.orm import InstrumentedAttribute
from sqlmodel.sql.expression import SelectOfScalar

from worker.core.errors import DeclarationError

T = TypeVar("T")
Columns = tuple[InstrumentedAttribute[object], ...]


def key_columns(key: object) -> Columns:
    """The columns of a key given as one column or a tuple of them.

    Raises:
        DeclarationError: it is no column of a model.
    """
    columns = key if isinstance(key, tuple) else (key,)
    for column in columns:
        if not isinstance(column, InstrumentedAttribute):
            raise DeclarationError(
                f"key={column!r} is no column of a model. Give one, or a tuple of them, for example key=Order.id"
            )
    return columns


def tables_of(columns: Columns) -> set[Table]:
    """The tables that the key's columns are in."""
    found = {column.property.columns[0].table for column in columns}
    return {table for table in found if isinstance(table, Table)}


def check_walkable(statement: SelectOfScalar[T]) -> None:
    """Refuse a query that cannot be walked by key.

    Raises:
        DeclarationError: it has an ORDER BY, LIMIT or OFFSET of its own.
    """
    own_order = bool(statement._order_by_clauses)  # noqa: SLF001 - SQLAlchemy offers no public way to see it
    own_limit = statement._limit_clause is not None or statement._offset_clause is not None  # noqa: SLF001 - likewise
    if own_order or own_limit:
        raise DeclarationError(
            "ctx.chunks() orders and limits the query itself, by its key. Leave out order_by(), limit() and offset(), "
            "for example ctx.chunks(select(Order).where(Order.status == 'open'), key=Order.id)"
        )


def next_rows(
    statement: SelectOfScalar[T], columns: Columns, after: Sequence[object] | None, rows: int, *, lock: bool
) -> SelectOfScalar[T]:
    """The statement for the next rows in key order.

    Args:
        statement: the user's query.
        columns: the key's columns.
        after: the last key that was dealt with; None for the beginning.
        rows: how many at most.
        lock: whether to lock them until the transaction ends, in key order, so that two walks cannot dead-lock.
    """
    if after is not None:
        past = columns[0] > after[0] if len(columns) == 1 else tuple_(*columns) > tuple_(*after)
        statement = statement.where(past)
    statement = statement.order_by(*columns).limit(rows)
    return statement.with_for_update(of=columns[0].class_, key_share=True) if lock else statement


def key_of(row: object, columns: Columns) -> tuple[object, ...]:
    """The key of a row that a walk returned."""
    return tuple(getattr(row, column.key) for column in columns)
