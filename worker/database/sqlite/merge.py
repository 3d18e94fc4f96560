"""Upserts on SQLite."""

from collections.abc import Sequence

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.merge_counts import MergeCounts
from worker.core.table_facts import TableFacts


class SqliteMerge:
    """An upsert of one table, prepared for one set of columns and used for each chunk."""

    def __init__(
        self, table: Table, facts: TableFacts, *, columns: Sequence[str], key: Sequence[str], update: Sequence[str]
    ) -> None:
        raise NotImplementedError

    async def apply(self, connection: AsyncConnection, values: Sequence[Sequence[object]]) -> MergeCounts:
        """Upsert some rows."""
        raise NotImplementedError

    async def in_key_order(self, connection: AsyncConnection, values: Sequence[Sequence[object]]) -> list[list[int]]:
        """The indexes of some rows in the order of their keys."""
        raise NotImplementedError
