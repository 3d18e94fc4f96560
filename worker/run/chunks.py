"""The chunk loop: one bounded transaction after the other, each committed together with the run's cursor.

A chunk's transaction, in order: limits (set by the session), the chunk's statements, the fenced progress update,
COMMIT. The last chunk's stays open, so that the runner can commit the result with it. Between two chunks the brake may
hold the run. Refuses to retry and to judge errors: the runner does.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, and_

from worker.core.chunk_size import next_size
from worker.core.clock import Clock
from worker.core.cursor import Cursor, CursorError
from worker.core.errors import StaleFenceError
from worker.core.events import ChunkCommitted, Listener
from worker.core.settings import Settings
from worker.database.claims import Claimed
from worker.database.engine import Database
from worker.database.session import RunSession
from worker.declare.context import Chunk
from worker.declare.walk import KeyValues, Span, Walk, WalkCursor
from worker.run.brake import Brake
from worker.run.keyset import AnySelect
from worker.run.query_walks import QueryWalks
from worker.run.stop_signal import StopSignal


class ChunkLoop:
    """Commits the chunks of one run on one worker; the `ChunkDriver` of its context.

    Args:
        claimed: the run; its progress is moved on in place.
        session: the run's own.
        database: its dialect writes the fenced update; a stream has a connection of it.
        settings: bounds of a chunk's size.
        stop: whether this worker is stopping.
        clock: measures chunks.
        emit: told of each committed chunk.
        brake: holds the run between chunks while the database is under pressure.
    """

    def __init__(
        self,
        claimed: Claimed,
        session: RunSession,
        database: Database,
        settings: Settings,
        stop: StopSignal,
        clock: Clock,
        emit: Listener,
        brake: Brake,
    ) -> None:
        self._claimed = claimed
        self._progress = claimed.progress
        self._session = session
        self._database = database
        self._dialect = database.dialect
        self._bounds = settings.chunk_bounds
        self._stop = stop
        self._clock = clock
        self._emit = emit
        self._brake = brake
        # A resumed run asks before its first chunk too, or a snoozed one would do a chunk each time it comes back.
        self._resumes = self._progress.chunk > 0
        self._queries = QueryWalks(self, self._progress, session, database, settings, clock)
        if not self._progress.chunk_rows:
            self._progress.chunk_rows = self._bounds.start

    @property
    def stopping(self) -> bool:
        """Whether this worker was told to stop."""
        return self._stop.is_set

    def works_on(self, table: Table) -> None:
        """Remember that the run reads or writes a table."""
        self._brake.works_on(table)

    async def commit_chunk(
        self, apply: Callable[[], Awaitable[None]], *, cursor: Cursor, rows: int, last: bool
    ) -> None:
        """Run one chunk's statements and commit them with the cursor from which the next one starts.

        Args:
            apply: runs the statements on the session and counts on the progress.
            cursor: where the next chunk starts.
            rows: how many rows the chunk deals with.
            last: leave the transaction open, to be committed with the run's result.

        Raises:
            StaleFenceError: a newer claim holds the run; nothing of this chunk was committed.
            Stop: after the commit, where the run is to stop here.
        """
        self.check_wanted()
        await self.begin_walk(())
        began = self._clock.monotonic_ms()
        await apply()
        if last:
            await self._move_on(cursor, rows, began)
        else:
            await self.end_chunk(cursor, rows, began, goes_on=True)

    def chunks(self, statement: AnySelect, key: object, *, lock: bool) -> AsyncIterator[Chunk[Any]]:
        """Walk a query by key; see `JobContext.chunks`."""
        return self._queries.chunks(statement, key, lock=lock)

    def stream(self, statement: AnySelect, key: object) -> AsyncIterator[Chunk[Any]]:
        """Walk a query by key on a snapshot of its own; see `JobContext.stream`."""
        return self._queries.stream(statement, key)

    async def aclose(self) -> None:
        """Close what a job that ended in the middle of a stream has left open."""
        await self._queries.aclose()

    async def spans(self, walk: Walk, matching: ColumnElement[bool]) -> AsyncIterator[Span]:
        """Walk a table by key; see `JobContext.spans`."""
        await self.begin_walk([walk.table])
        place = WalkCursor.parse(self._progress.cursor)
        if place.until is None:
            self.check_wanted()
            place = replace(place, order=walk.names, until=await self._key(walk.last()))
        elif place.order != walk.names:
            raise CursorError(
                f"The run walked table {walk.table.fullname!r} by ({', '.join(place.order)}), and is now to walk it by "
                f"({', '.join(walk.names)}): its cursor says nothing. Was the primary key changed? Start a new run"
            )
        while place.until is not None:
            self.check_wanted()
            began = self._clock.monotonic_ms()
            edge = await self._key(walk.edge(place.after, place.until, self._progress.chunk_rows))
            if edge is None:
                return
            *upto, rows = edge
            condition = and_(walk.between(place.after, tuple(upto)), matching)
            span = Span(walk, condition, matching, int(str(rows)), self._progress.chunk + 1, dict(place.keep))
            yield span
            place = WalkCursor(walk.names, tuple(upto), place.until, span.keep)
            await self.end_chunk(place.dump(), span.rows, began, goes_on=place.after != place.until)

    async def _key(self, statement: Select[KeyValues]) -> KeyValues | None:
        row = (await (await self._session.connection()).execute(statement)).first()
        return None if row is None else tuple(row)

    async def begin_walk(self, tables: Iterable[Table]) -> None:
        """Say which tables are walked, and wait before the first chunk of a resumed run where there is pressure."""
        for table in tables:
            self.works_on(table)
        if self._resumes and not self._session.in_transaction():
            await self._brake.ease(0.0)
        self._resumes = False

    async def end_chunk(self, cursor: Cursor, rows: int, began: float, *, goes_on: bool) -> None:
        """Commit a chunk with the cursor from which the next one starts.

        Args:
            cursor: where the next chunk starts.
            rows: how many rows the chunk dealt with.
            began: when its first statement was sent, by the clock.
            goes_on: whether another chunk is likely to follow, before which the brake may hold the run.

        Raises:
            StaleFenceError: a newer claim holds the run; nothing of this chunk was committed.
            Stop: after the commit, where the run is to stop here.
        """
        wanted = await self._move_on(cursor, rows, began)
        await self._session.end_transaction()
        progress, took_ms = self._progress, self._clock.monotonic_ms() - began
        self._emit(
            ChunkCommitted(
                self._claimed.fence.run_id, self._claimed.job, progress.chunk, rows, took_ms, progress.chunk_rows
            )
        )
        self._stop.stop_where_asked(wanted)
        if goes_on:
            await self._brake.ease(took_ms)

    async def _move_on(self, cursor: Cursor, rows: int, began: float) -> str | None:
        """Write down in the chunk's transaction that it was done; returns what a person asked for meanwhile."""
        progress = self._progress
        progress.done += rows
        progress.cursor = cursor
        await self._session.flush()
        took_ms = self._clock.monotonic_ms() - began
        progress.chunk_rows = next_size(progress.chunk_rows, rows, took_ms, self._bounds)
        return await self._advance()

    async def _advance(self) -> str | None:
        fence = self._claimed.fence
        held = await self._session.write(partial(self._dialect.advance, fence=fence, progress=self._progress))
        if held is None:
            raise StaleFenceError(
                f"Run {fence.run_id!r} was claimed anew after fence {fence.number}: this chunk was rolled back"
            )
        self._progress.chunk += 1
        return held.wanted

    def check_wanted(self) -> None:
        """Stop before the first chunk where that was asked for.

        Raises:
            Stop: the run is to stop at its cursor.
        """
        self._stop.stop_where_asked(self._claimed.wanted)
