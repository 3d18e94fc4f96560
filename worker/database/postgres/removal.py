"""Deletes on PostgreSQL whose rows go on elsewhere: into another table, or to whoever takes them.

Owns the statements. One statement sees each row once: what it deletes is what it hands on, to the last version of the
last row, whatever other sessions do meanwhile. Refuses to lock (that was done before, in the order of keys).
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, FromClause, Table, delete, func, insert, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection


async def move_rows(
    connection: AsyncConnection, table: Table, archive: Table, columns: Sequence[str], condition: ColumnElement[bool]
) -> tuple[int, int]:
    """Delete rows and insert each into another table.

    ```sql
    WITH gone AS (DELETE FROM t WHERE ... RETURNING a, b),
         kept AS (INSERT INTO archive (a, b) SELECT a, b FROM gone RETURNING 1)
    SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM kept)
    ```

    Args:
        connection: in a transaction of the caller's.
        table: a registered one.
        archive: another.
        columns: the names of the columns that both have and that the archive is given.
        condition: which rows.

    Returns:
        How many rows were deleted, and how many inserted. These differ where a trigger of the archive drops rows
        without a word.
    """
    gone = delete(table).where(condition).returning(*_named(table, columns)).cte("gone")
    given = insert(archive).from_select(_named(archive, columns), select(*gone.c))
    kept = given.returning(literal(1).label("one")).cte("kept")
    counts = select(
        select(func.count()).select_from(gone).scalar_subquery(),
        select(func.count()).select_from(kept).scalar_subquery(),
    )
    deleted, archived = (await connection.execute(counts)).one()
    return deleted, archived


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
        condition: which rows.
        order: the columns to sort by.
    """
    named = [value.label(f"v{at}") for at, value in enumerate(selected)]
    sorted_by = [column.label(f"k{at}") for at, column in enumerate(order)]
    gone = delete(table).where(condition).returning(*named, *sorted_by).cte("gone")
    values: list[ColumnElement[object]] = [gone.c[label.name] for label in named]
    taken = select(*values).order_by(*(gone.c[label.name] for label in sorted_by))
    return (await connection.execute(taken)).all()


def advice(table: Table) -> str:
    """What makes the room of deleted rows usable again."""
    return (
        "Their room is used again once autovacuum has been there. To have it sooner, and fresh statistics: VACUUM "
        f"(ANALYZE) {table.fullname}"
    )


def _named(table: FromClause, names: Sequence[str]) -> list[ColumnElement[object]]:
    # in SQLAlchemy a column may go by another key than its name
    found = {column.name: column for column in table.c}
    return [found[name] for name in names]
