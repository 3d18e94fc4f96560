"""Deletes on MariaDB and MySQL whose rows go on elsewhere: into another table, or to whoever takes them.

No statement does both on both servers. So rows are locked and handed on first, and deleted then, by the same
condition. Under READ COMMITTED that may delete more than was handed on: a row that another session has added in
between. Then all is undone and done again, which takes that row along. Owns this, and the advice for afterwards.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, FromClause, Table, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.errors import RequestError

T = TypeVar("T")

ATTEMPTS: Final = 10
"""How often it is tried: another session would have to add a row of the very span each time."""


async def move_rows(
    connection: AsyncConnection, table: Table, archive: Table, columns: Sequence[str], condition: ColumnElement[bool]
) -> tuple[int, int]:
    """Delete rows and insert each into another table.

    Args:
        connection: in a transaction of the caller's.
        table: a registered one.
        archive: another.
        columns: the names of the columns that both have and that the archive is given.
        condition: which rows; it holds for the same rows whenever it is asked.

    Returns:
        How many rows were deleted, and how many inserted.
    """
    locked = select(*_named(table, columns)).where(condition).with_for_update()
    copying = insert(archive).from_select(_named(archive, columns), locked)

    async def copy() -> tuple[int, int]:
        archived = (await connection.execute(copying)).rowcount
        return archived, archived

    return await _handed_on(connection, table, condition, copy)


async def take_rows(
    connection: AsyncConnection,
    table: Table,
    selected: Sequence[ColumnElement[object]],
    condition: ColumnElement[bool],
    order: Sequence[ColumnElement[object]],
) -> Sequence[Sequence[object]]:
    """Delete rows and return something of each, sorted.

    Args:
        connection: in a transaction of the caller's.
        table: a registered one.
        selected: what to return, of the table's columns.
        condition: which rows; it holds for the same rows whenever it is asked.
        order: the columns to sort by.
    """
    named = [value.label(f"v{at}") for at, value in enumerate(selected)]
    locked = select(*named).select_from(table).where(condition).order_by(*order).with_for_update()

    async def read() -> tuple[int, Sequence[Sequence[object]]]:
        rows = (await connection.execute(locked)).all()
        return len(rows), rows

    _, rows = await _handed_on(connection, table, condition, read)
    return rows


def advice(table: Table) -> str:
    """What makes the room of deleted rows usable again."""
    name = table.fullname
    return (
        "Their room is used again by new rows. To give it back, which rebuilds the table and takes as long and as much "
        f"space: OPTIMIZE TABLE {name}. For fresh statistics: ANALYZE TABLE {name}"
    )


async def _handed_on(
    connection: AsyncConnection,
    table: Table,
    condition: ColumnElement[bool],
    hand_on: Callable[[], Awaitable[tuple[int, T]]],
) -> tuple[int, T]:
    """Hand rows on and delete them: how many were deleted, and what `hand_on` returned beside its count."""
    for _ in range(ATTEMPTS):
        async with connection.begin_nested() as savepoint:
            count, given = await hand_on()
            deleted = (await connection.execute(delete(table).where(condition))).rowcount
            if deleted == count:
                return deleted, given
            await savepoint.rollback()
    raise RequestError(
        f"Another session goes on adding rows to table {table.fullname!r} that are to be deleted: {ATTEMPTS} times "
        "there were more of them than had just been read. Let it pause meanwhile. Nothing of this chunk was deleted"
    )


def _named(table: FromClause, names: Sequence[str]) -> list[ColumnElement[Any]]:
    # in SQLAlchemy a column may go by another key than its name
    found = {column.name: column for column in table.c}
    return [found[name] for name in names]
