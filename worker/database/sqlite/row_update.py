"""Updates on SQLite of rows that are there."""

from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.table_facts import TableFacts
from worker.core.update_counts import UpdateCounts


class SqliteRowUpdate:
    """An update that gives each row values of its own."""

    def __init__(self, table: Table, facts: TableFacts, *, columns: Sequence[str], key: Sequence[str]) -> None:
        raise NotImplementedError

    async def apply(self, connection: AsyncConnection, values: Sequence[Sequence[object]]) -> UpdateCounts:
        """Update some rows."""
        raise NotImplementedError

    async def in_key_order(self, connection: AsyncConnection, values: Sequence[Sequence[object]]) -> list[list[int]]:
        """The indexes of some rows in the order of their keys."""
        raise NotImplementedError


class SqliteWhereUpdate:
    """An update that gives the same values to all rows for which a condition holds."""

    def __init__(self, table: Table, facts: TableFacts, values: Mapping[str, object]) -> None:
        raise NotImplementedError

    async def apply(self, connection: AsyncConnection, condition: ColumnElement[bool]) -> UpdateCounts:
        """Update the rows for which a condition holds."""
        raise NotImplementedError
