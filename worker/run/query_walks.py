"""Walks over a query of the job's own: row by row in the run's session, or streamed from a snapshot beside it.

Owns where the next rows come from. Refuses to commit: the chunk loop does.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from typing import Any, Protocol

from sqlalchemy import Table

from worker.core.clock import Clock
from worker.core.cursor import Cursor
from worker.core.progress import Progress
from worker.core.settings import Settings
from worker.database.engine import Database
from worker.database.session import RunSession
from worker.database.snapshot import open_snapshot
from worker.declare.context import Chunk
from worker.run.keyset import AnySelect, check_walkable, key_columns, keyed_query, place_of, tables_of


class Committer(Protocol):
    """What a walk asks of the chunk loop."""

    def check_wanted(self) -> None:
        """Stop where that was asked for."""
        ...

    async def begin_walk(self, tables: Iterable[Table]) -> None:
        """Say which tables are walked, and wait where the database is under pressure."""
        ...

    async def end_chunk(self, cursor: Cursor, rows: int, began: float, *, goes_on: bool) -> None:
        """Commit a chunk with its cursor; ease off where another one follows."""
        ...


class QueryWalks:
    """The walks of one run over queries.

    Args:
        committer: commits what the loop's body did.
        progress: of the run; read only.
        session: the run's own.
        database: a stream has a second connection of its pool.
        settings: limits of a stream's transaction.
        clock: measures chunks, from their first statement on.
    """

    def __init__(
        self,
        committer: Committer,
        progress: Progress,
        session: RunSession,
        database: Database,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._committer = committer
        self._progress = progress
        self._session = session
        self._database = database
        self._settings = settings
        self._clock = clock
        self._snapshots = AsyncExitStack()

    async def chunks(self, statement: AnySelect, key: object, *, lock: bool) -> AsyncIterator[Chunk[Any]]:
        """Walk a query by key; see `JobContext.chunks`."""
        await self._begin(statement, key)
        connection = await self._session.connection()
        place = place_of(self._progress.cursor)
        query = await keyed_query(connection, self._database.dialect, statement, key, resumed=place is not None)
        while True:
            self._committer.check_wanted()
            began, asked = self._clock.monotonic_ms(), self._progress.chunk_rows
            found = await self._session.rows(query.next_rows(place, asked, lock=lock))
            if not found:
                return
            cursor = query.cursor(found[-1])
            yield Chunk(query.without_key(found), self._progress.chunk + 1)
            await self._committer.end_chunk(cursor, len(found), began, goes_on=len(found) == asked)
            place = place_of(cursor)
            # what the chunk loaded belongs to it: keeping it would grow with the table
            self._session.expunge_all()

    async def stream(self, statement: AnySelect, key: object) -> AsyncIterator[Chunk[Any]]:
        """Walk a query by key on a snapshot of its own; see `JobContext.stream`."""
        await self._begin(statement, key)
        # one at a time: a run has two connections at most
        await self.aclose()
        self._snapshots = mine = AsyncExitStack()
        async with mine:
            snapshot = await mine.enter_async_context(open_snapshot(self._database, self._settings))
            place = place_of(self._progress.cursor)
            connection = await snapshot.connection()
            query = await keyed_query(connection, self._database.dialect, statement, key, resumed=place is not None)
            rows = query.rows_after(place)
            while True:
                self._committer.check_wanted()
                began, asked = self._clock.monotonic_ms(), self._progress.chunk_rows
                found = await snapshot.fetch(rows, asked)
                if not found:
                    return
                yield Chunk(query.without_key(found), self._progress.chunk + 1)
                await self._committer.end_chunk(query.cursor(found[-1]), len(found), began, goes_on=len(found) == asked)
                self._session.expunge_all()

    async def aclose(self) -> None:
        """Close the snapshot of a stream that was left in the middle."""
        await self._snapshots.aclose()

    async def _begin(self, statement: AnySelect, key: object) -> None:
        check_walkable(statement)
        await self._committer.begin_walk(tables_of(key_columns(key)))
        self._committer.check_wanted()
