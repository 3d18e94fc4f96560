"""Work on tables in a file of SQLite's, through the parts of its dialect."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Table, select

from tests.support.sqlite_files import sqlite_database
from worker.core.merge_counts import MergeCounts
from worker.core.table_facts import TableFacts
from worker.core.update_counts import UpdateCounts
from worker.database.engine import Database
from worker.database.sqlite.catalogue import read_table_facts
from worker.database.sqlite.merge import SqliteMerge
from worker.database.sqlite.row_update import SqliteRowUpdate

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SqliteWork:
    """A database in a file, and what tests do with its tables."""

    database: Database

    async def execute(self, *statements: str) -> None:
        """Run statements in a transaction."""
        async with self.database.engine.begin() as connection:
            for statement in statements:
                await connection.exec_driver_sql(statement)

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query finds, as the driver has it."""
        async with self.database.reading() as connection:
            return [tuple(row) for row in await connection.exec_driver_sql(query)]

    async def create(self, table: Table) -> Table:
        """Create a table as its model has it."""
        async with self.database.engine.begin() as connection:
            await connection.run_sync(table.metadata.create_all)
        return table

    async def content(self, table: Table) -> list[tuple[Any, ...]]:
        """All rows, as the model reads them, in the order of the first column."""
        async with self.database.reading() as connection:
            return [tuple(row) for row in await connection.execute(select(table).order_by(table.c[0]))]

    async def facts(self, table: Table) -> TableFacts:
        """What the schema says of a table."""
        async with self.database.reading() as connection:
            return await read_table_facts(connection, table)

    async def upsert(
        self, table: Table, rows: Sequence[Row], *, key: Sequence[str] = ("id",), update: Sequence[str] | None = None
    ) -> MergeCounts:
        """Merge rows that all have the same columns."""
        names = list(rows[0])
        taken = [name for name in names if name not in key] if update is None else update
        merge = SqliteMerge(table, await self.facts(table), columns=names, key=key, update=taken)
        async with self.database.engine.begin() as connection:
            return await merge.apply(connection, [[row[name] for row in rows] for name in names])

    async def update(self, table: Table, rows: Sequence[Row], *, key: Sequence[str] = ("id",)) -> UpdateCounts:
        """Update rows that all have the same columns."""
        names = list(rows[0])
        changing = SqliteRowUpdate(table, await self.facts(table), columns=names, key=key)
        async with self.database.engine.begin() as connection:
            return await changing.apply(connection, [[row[name] for row in rows] for name in names])


@asynccontextmanager
async def sqlite_work(path: Path) -> AsyncIterator[SqliteWork]:
    """Work on a file, which need not exist yet."""
    async with sqlite_database(path) as database:
        yield SqliteWork(database)
