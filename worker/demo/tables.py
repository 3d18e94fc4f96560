"""Fresh tables for each demonstration.

Owns dropping and making them. Refuses to drop a table of such a name which the demonstration did not make.
"""

from sqlalchemy import Connection, Table, inspect
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.core.errors import NotAllowedError
from worker.demo.models import FRESH, KEPT, MARK


async def make_tables(engine: AsyncEngine) -> None:
    """Drop what an earlier demonstration left, and make empty tables.

    Raises:
        NotAllowedError: a table or view of that name is there, and is somebody else's.
    """
    async with engine.begin() as connection:
        await connection.run_sync(_make)


def _make(connection: Connection) -> None:
    for model in (*FRESH, *KEPT):
        table: Table = model.__table__  # type: ignore[attr-defined]  # SQLModel sets it on table classes
        there = _ours(connection, table)
        if there and model in FRESH:
            table.drop(connection)
        if not there or model in FRESH:
            table.create(connection)


def _ours(connection: Connection, table: Table) -> bool:
    """Whether a demonstration made that table; False where there is none."""
    found = inspect(connection)
    if not found.has_table(table.name):
        return False
    if MARK.format(table.name) not in {check["name"] for check in found.get_check_constraints(table.name)}:
        raise NotAllowedError(
            f"The database has a table {table.name!r} that no demonstration made, and it is left as it is. Rename "
            "it, or unset DATABASE_URL for the demonstration, so that it uses a database of its own"
        )
    return True
