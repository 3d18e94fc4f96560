"""What MariaDB's and MySQL's catalogue says about a table: the reader of `TableFacts`."""

from collections.abc import Collection

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.table_facts import TableFacts


async def may_be_unique(connection: AsyncConnection, table: Table, columns: Collection[str]) -> bool:
    """Whether something unique lies within some columns of a table, or may."""
    raise NotImplementedError


async def read_table_facts(connection: AsyncConnection, table: Table) -> TableFacts:
    """What the database says about a registered table."""
    raise NotImplementedError
