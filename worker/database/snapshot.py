"""Rows of one query, fetched some at a time by a server-side cursor, from a snapshot and a connection of their own.

Owns that connection from its opening to its return to the pool, however the reading ends. Refuses to write, and to
know how large a chunk is.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Connection, Row, Select, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncResult, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from worker.core.settings import Settings
from worker.database.engine import Database

AnyRow = Row[*tuple[Any, ...]]


class Snapshot:
    """An open snapshot. Get one from `open_snapshot`.

    Args:
        database: whose errors tell a lost connection.
        session: in a transaction that only reads.
    """

    def __init__(self, database: Database, session: AsyncSession) -> None:
        self._database = database
        self._session = session
        self._result: AsyncResult[*tuple[Any, ...]] | None = None

    async def connection(self) -> AsyncConnection:
        """The connection, for questions before the first fetch."""
        return await self._session.connection()

    async def fetch(self, statement: "Select[*tuple[Any, ...]]", rows: int) -> Sequence[AnyRow]:
        """The next rows of a query; none at its end.

        Loaded objects belong to nobody: what is done to them is not written, and nothing of them is kept here.

        Args:
            statement: the query, the same in every call.
            rows: how many at most.
        """
        try:
            if self._result is None:
                await self._database.dialect.avoid_long_sort(await self.connection(), statement)
                self._result = await self._session.stream(statement)
            found = await self._result.fetchmany(rows)
        except self._database.dialect.errors.raw_errors as error:
            raise await self._explained(error) from error
        self._forget()
        return found

    async def close(self) -> None:
        """Give the connection back, or up where it does not answer."""
        try:
            await self._session.close()
        except self._database.raises:
            await self._session.invalidate()

    def _forget(self) -> None:
        # one by one: the cursor goes on loading into the identity map, which `expunge_all` would replace
        for loaded in list(self._session.sync_session.identity_map.values()):
            if loaded in self._session:
                self._session.expunge(loaded)

    async def _explained(self, error: BaseException) -> BaseException:
        """An error of a fetch, which SQLAlchemy hands on as the driver raised it, as it renders those of statements."""
        connection = await self._session.connection()
        raw = await connection.get_raw_connection()
        lost = connection.dialect.is_disconnect(error, raw.dbapi_connection, None)  # type: ignore[arg-type]  # it looks at the connection
        return DBAPIError(None, None, error, hide_parameters=True, connection_invalidated=lost)


@asynccontextmanager
async def open_snapshot(database: Database, settings: Settings) -> AsyncIterator[Snapshot]:
    """A snapshot of what is committed when the first question is asked; closed at the end, whatever the end is.

    Args:
        database: its pool lends a connection for as long.
        settings: limits of the transaction.
    """
    engine = database.engine.execution_options(**database.dialect.snapshot_options)
    session = AsyncSession(engine, expire_on_commit=False, autoflush=False)

    def set_limits(_: Session, transaction: SessionTransaction, connection: Connection) -> None:
        if not transaction.nested:
            database.dialect.set_snapshot_limits(connection, settings)

    event.listen(session.sync_session, "after_begin", set_limits)
    snapshot = Snapshot(database, session)
    try:
        yield snapshot
    finally:
        # a cancelled task still gives the connection back
        await asyncio.shield(asyncio.ensure_future(snapshot.close()))
