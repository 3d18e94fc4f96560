"""What changes a table, prepared by the dialect and bound to a run's session: what `Tools` hands out to jobs.

Owns that each statement runs in the run's own transaction. Refuses to know what is changed.
"""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from sqlalchemy import ColumnElement
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.outcomes import ErrorRecord
from worker.core.update_counts import UpdateCounts
from worker.database.dialect import WhereUpdate
from worker.database.engine import Database
from worker.database.session import RunSession
from worker.run.isolate import attempt

Counts = TypeVar("Counts")
Counts_co = TypeVar("Counts_co", covariant=True)
Values = Sequence[Sequence[object]]


class RowWriter(Protocol[Counts_co]):
    """A dialect's upsert, or its update, of rows that carry their key."""

    async def apply(self, connection: AsyncConnection, values: Values) -> Counts_co:
        """Write some rows, given as one sequence a column."""
        ...

    async def in_key_order(self, connection: AsyncConnection, values: Values) -> list[list[int]]:
        """The indexes of some rows in the order of their keys, those of one key together, in their own order."""
        ...


class PreparedRows(Generic[Counts]):
    """An upsert, or an update, of rows that carry their key."""

    def __init__(self, writer: RowWriter[Counts], session: RunSession, database: Database) -> None:
        self._writer = writer
        self._session = session
        self._database = database

    async def apply(self, values: Values) -> Counts:
        """Write some rows in the chunk's transaction.

        Args:
            values: one sequence a column, all of the same length, at least 1.
        """
        return await self._writer.apply(await self._session.connection(), values)

    async def in_key_order(self, values: Values) -> list[list[int]]:
        """The indexes of some rows in the order of their keys, those of one key together, in their own order.

        Args:
            values: as for `apply`.

        Returns:
            Groups of rows with one key; a single group where the database cannot compare them, for it refuses a key.
        """

        async def order() -> list[list[int]]:
            return await self._writer.in_key_order(await self._session.connection(), values)

        found = await attempt(self._session, self._database, order)
        return [list(range(len(values[0])))] if isinstance(found, ErrorRecord) else found


class PreparedWhere:
    """An update that gives many rows the same values."""

    def __init__(self, update: WhereUpdate, session: RunSession) -> None:
        self._update = update
        self._session = session

    async def apply(self, condition: ColumnElement[bool]) -> UpdateCounts:
        """Lock the rows for which a condition holds, in key order, and update them in the chunk's transaction."""
        return await self._update.apply(await self._session.connection(), condition)
