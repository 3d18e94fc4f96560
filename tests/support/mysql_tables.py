"""Tables on a MariaDB of the tests' own: made, filled by merges, and read back."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

from sqlalchemy import Table, make_url, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from worker.core.merge_counts import MergeCounts
from worker.core.settings import Settings
from worker.core.table_facts import TableFacts
from worker.core.update_counts import UpdateCounts
from worker.database.mysql.catalogue import read_table_facts
from worker.database.mysql.connections import connection_options, watch_engine
from worker.database.mysql.merge import MySqlMerge
from worker.database.mysql.row_update import MySqlRowUpdate

Row = Mapping[str, object]


@asynccontextmanager
async def mysql_engine(server_url: str, charset: str = "utf8mb4") -> AsyncIterator[AsyncEngine]:
    """An engine on a new database of a server, dropped at the end."""
    name = f"test_{uuid4().hex[:12]}"
    server = create_async_engine(server_url)
    async with server.begin() as connection:
        await connection.execute(text(f"CREATE DATABASE {name} CHARACTER SET {charset}"))
    url = make_url(server_url).set(database=name)
    engine = create_async_engine(url, pool_size=20, **connection_options(Settings(), "test"))
    watch_engine(engine)
    try:
        yield engine
    finally:
        await engine.dispose()
        async with server.begin() as connection:
            await connection.execute(text(f"DROP DATABASE {name}"))
        await server.dispose()


class Merging:
    """Runs statements, merges and updates, each in a transaction of its own.

    Args:
        engine: whose database it is about.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def execute(self, statements: str) -> None:
        """Run SQL statements, separated by semicolons."""
        async with self.engine.begin() as connection:
            for statement in filter(str.strip, statements.split(";")):
                await connection.exec_driver_sql(statement)

    async def create(self, table: Table) -> Table:
        """Create a table as its model has it."""
        async with self.engine.begin() as connection:
            await connection.run_sync(table.create)
        return table

    async def facts(self, table: Table) -> TableFacts:
        """What the catalogue says of a table."""
        async with self.engine.connect() as connection:
            return await read_table_facts(connection, table)

    async def content(self, table: Table) -> list[tuple[object, ...]]:
        """All rows, in the order of the first column."""
        async with self.engine.connect() as connection:
            return [tuple(row) for row in await connection.execute(select(table).order_by(table.c[0]))]

    async def upsert(
        self, table: Table, rows: Sequence[Row], *, key: Sequence[str] = ("id",), update: Sequence[str] | None = None
    ) -> MergeCounts:
        """Upsert rows, given as dictionaries with the same keys."""
        columns = list(rows[0])
        taken = [name for name in columns if name not in key] if update is None else update
        async with self.engine.begin() as connection:
            facts = await read_table_facts(connection, table)
            merge = MySqlMerge(table, facts, columns=columns, key=key, update=taken)
            return await merge.apply(connection, _by_column(columns, rows))

    async def update(self, table: Table, rows: Sequence[Row], *, key: Sequence[str] = ("id",)) -> UpdateCounts:
        """Update rows, given as dictionaries with the same keys."""
        columns = list(rows[0])
        async with self.engine.begin() as connection:
            facts = await read_table_facts(connection, table)
            update = MySqlRowUpdate(table, facts, columns=columns, key=key)
            return await update.apply(connection, _by_column(columns, rows))


def _by_column(columns: Sequence[str], rows: Sequence[Row]) -> list[list[object]]:
    return [[row[name] for row in rows] for name in columns]
