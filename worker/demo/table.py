"""A fresh `demo_flights` for each demonstration.

Owns dropping and making that one table. Refuses to drop a table of that name which the demonstration did not make.
"""

from sqlalchemy import Connection, Table, inspect
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.core.errors import NotAllowedError
from worker.demo.models import MARK, Flight


async def make_table(engine: AsyncEngine) -> None:
    """Drop what an earlier demonstration left, and make an empty table.

    Raises:
        NotAllowedError: a table or view of that name is there, and is somebody else's.
    """
    async with engine.begin() as connection:
        await connection.run_sync(_make)


def _make(connection: Connection) -> None:
    table: Table = Flight.__table__  # type: ignore[attr-defined]  # SQLModel sets it on table classes
    found = inspect(connection)
    if found.has_table(table.name):
        if found.get_table_comment(table.name)["text"] != MARK:
            raise NotAllowedError(
                f"The database has a table {table.name!r} that no demonstration made, and it is left as it is. Rename "
                "it, or unset DATABASE_URL for the demonstration, so that it uses a database of its own"
            )
        table.drop(connection)
    table.create(connection)
