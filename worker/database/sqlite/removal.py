"""Deletes on SQLite whose rows go on elsewhere: into another table, or to whoever takes them.

What DELETE ... RETURNING returns cannot be inserted by the same statement, and comes in no order; and nobody else
writes while the transaction does. So rows are copied or read first and deleted then, and what was copied is what is
deleted. Owns the statements.
"""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, FromClause, Table, delete, insert, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.errors import RequestError
from worker.database.sqlite.exact_types import Affinity, Stored

_COUNTED: Final = {"preserve_rowcount": True}
_AS_IT_IS: Final = Stored(Affinity.BLOB)


async def move_rows(
    connection: AsyncConnection, table: Table, archive: Table, columns: Sequence[str], condition: ColumnElement[bool]
) -> tuple[int, int]:
    """Delete rows and insert each into another table.

    ```sql
    INSERT OR ABORT INTO archive (a, b) SELECT a, b FROM t WHERE ...
    DELETE FROM t WHERE ...
    ```

    Args:
        connection: in a transaction of the caller's that may write.
        table: a registered one.
        archive: another.
        columns: the names of the columns that both have and that the archive is given.
        condition: which rows.

    Returns:
        How many rows were deleted, and how many inserted. These differ where a trigger of the archive drops rows
        without a word.

    Raises:
        RequestError: a trigger keeps rows from being deleted, which must not be in two places.
    """
    chosen = select(*_named(table, columns)).where(condition)
    copying = (
        insert(archive).prefix_with("OR ABORT").from_select(_named(archive, columns), chosen, include_defaults=False)
    )
    archived = (await connection.execute(copying, execution_options=_COUNTED)).rowcount
    deleted = (await connection.execute(delete(table).where(condition))).rowcount
    if deleted < archived:
        raise RequestError(
            f"A trigger of table {table.fullname!r} kept {archived - deleted:,} of {archived:,} rows from being "
            "deleted without a word (RAISE(IGNORE)), after they were copied into the archive. Nothing of this chunk "
            "was moved. Let the `where` leave out what the trigger keeps"
        )
    return deleted, archived


async def take_rows(
    connection: AsyncConnection,
    table: Table,
    selected: Sequence[ColumnElement[object]],
    condition: ColumnElement[bool],
    order: Sequence[ColumnElement[object]],
) -> Sequence[Sequence[object]]:
    """Delete rows and return something of each, sorted.

    A row that a trigger keeps (RAISE(IGNORE)) is not taken.

    Args:
        connection: in a transaction of the caller's that may write.
        table: a registered one.
        selected: what to return, of the table's columns.
        condition: which rows.
        order: the columns to sort by.
    """
    keys = [type_coerce(column, _AS_IT_IS).label(f"k{at}") for at, column in enumerate(order)]
    values = [value.label(f"v{at}") for at, value in enumerate(selected)]
    reading = select(*values, *keys).where(condition).order_by(*order)
    rows: Sequence[Sequence[object]] = (await connection.execute(reading)).all()
    deleted = (await connection.execute(delete(table).where(condition))).rowcount
    kept: set[tuple[Any, ...]] = set()
    if deleted < len(rows):
        kept = {tuple(row) for row in await connection.execute(select(*keys).where(condition))}
    width = len(values)
    return [row[:width] for row in rows if tuple(row[width:]) not in kept]


def advice(table: Table) -> str:
    """What makes the room of deleted rows usable again."""
    return (
        f"Their room in the file is used again by rows to come. To give it back to the disk: VACUUM; for fresh "
        f"statistics: ANALYZE {table.fullname}"
    )


def _named(table: FromClause, names: Sequence[str]) -> list[ColumnElement[object]]:
    # in SQLAlchemy a column may go by another key than its name
    found = {column.name: column for column in table.c}
    return [found[name] for name in names]
