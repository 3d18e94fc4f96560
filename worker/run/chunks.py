"""The chunk loop: one bounded transaction after the other, each committed together with the run's cursor.

A chunk's transaction, in order: limits (set by the session), the chunk's statements, the fenced progress update,
COMMIT. The last chunk's stays open, so that the runner can commit the result with it. Between two chunks the brake may
hold the run. Refuses to retry and to judge errors: the runner does.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from sqlalchemy import ColumnElement, Select, Table, and_
from sqlmodel.sql.expression import SelectOfScalar

from worker.core.chunk_size import next_size
from worker.core.clock import Clock
from worker.core.cursor import Cursor, CursorError, read_key, write_key
from worker.core.errors import StaleFenceError
from worker.core.events import ChunkCommitted, Listener
from worker.core.settings import Settings
from worker.database.claims import Claimed
from worker.database.dialect import Dialect
from worker.database.session import RunSession
from worker.declare.context import Chunk
from worker.declare.walk import KeyValues, Span, Walk, WalkCursor
from worker.run.brake import Brake
from worker.run.keyset import check_walkable, key_columns, key_of, next_rows, tables_of
from worker.run.stop_signal import StopSignal

T = TypeVar("T")


class ChunkLoop:
    """Commits the chunks of one run on one worker; the `ChunkDriver` of its context.

    Args:
        claimed: the run; its progress is moved on in place.
        session: the run's own.
        dialect: writes the fenced update.
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
        dialect: Dialect,
        settings: Settings,
        stop: StopSignal,
        clock: Clock,
        emit: Listener,
        brake: Brake,
    ) -> None:
        self._claimed = claimed
        self._progress = claimed.progress
        self._session = session
        self._dialect = dialect
        self._bounds = settings.chunk_bounds
        self._stop = stop
        self._clock = clock
        self._emit = emit
        self._brake = brake
        # A resumed run asks before its first chunk too, or a snoozed one would do a chunk each time it comes back.
        self._resumes = self._progress.chunk > 0
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
        await self._brake_at_start()
        began = self._clock.monotonic_ms()
        await apply()
        took_ms = await self._close_chunk(cursor, rows, began, last=last)
        if not last:
            await self._brake.ease(took_ms)

    async def chunks(self, statement: SelectOfScalar[T], key: object, *, lock: bool) -> AsyncIterator[Chunk[T]]:
        """Walk a query by key; see `JobContext.chunks`."""
        check_walkable(statement)
        columns = key_columns(key)
        for table in tables_of(columns):
            self.works_on(table)
        await self._brake_at_start()
        progress = self._progress
        after = None if progress.cursor is None else read_key(progress.cursor.get("after"))
        while True:
            self.check_wanted()
            began = self._clock.monotonic_ms()
            asked = progress.chunk_rows
            query = next_rows(statement, columns, after, asked, lock=lock)
            rows = list((await self._session.exec(query)).all())
            if not rows:
                return
            after = key_of(rows[-1], columns)
            cursor: Cursor = {"after": write_key(after)}
            yield Chunk(rows, progress.chunk + 1)
            took_ms = await self._close_chunk(cursor, len(rows), began, last=False)
            # what the chunk loaded belongs to it: keeping it would grow with the table
            self._session.expunge_all()
            if len(rows) == asked:
                await self._brake.ease(took_ms)

    async def spans(self, walk: Walk, matching: ColumnElement[bool]) -> AsyncIterator[Span]:
        """Walk a table by key; see `JobContext.spans`."""
        self.works_on(walk.table)
        await self._brake_at_start()
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
            took_ms = await self._close_chunk(place.dump(), span.rows, began, last=False)
            if place.after != place.until:
                await self._brake.ease(took_ms)

    async def _key(self, statement: Select[KeyValues]) -> KeyValues | None:
        row = (await (await self._session.connection()).execute(statement)).first()
        return None if row is None else tuple(row)

    async def _brake_at_start(self) -> None:
        if self._resumes and not self._session.in_transaction():
            await self._brake.ease(0.0)
        self._resumes = False

    async def _close_chunk(self, cursor: Cursor, rows: int, began: float, *, last: bool) -> float:
        progress = self._progress
        progress.done += rows
        progress.cursor = cursor
        await self._session.flush()
        aimed = progress.chunk_rows
        progress.chunk_rows = next_size(aimed, rows, self._clock.monotonic_ms() - began, self._bounds)
        wanted = await self._advance()
        if last:
            return self._clock.monotonic_ms() - began
        await self._session.end_transaction()
        took_ms = self._clock.monotonic_ms() - began
        self._emit(
            ChunkCommitted(
                self._claimed.fence.run_id, self._claimed.job, progress.chunk, rows, took_ms, progress.chunk_rows
            )
        )
        self._stop.stop_where_asked(wanted)
        return took_ms

    async def _advance(self) -> str | None:
        moved = await (await self._session.connection()).execute(
            self._dialect.advance(self._claimed.fence, self._progress)
        )
        row = moved.first()
        if row is None:
            fence = self._claimed.fence
            raise StaleFenceError(
                f"Run {fence.run_id!r} was claimed anew after fence {fence.number}: this chunk was rolled back"
            )
        self._progress.chunk += 1
        return None if row[0] is None else str(row[0])

    def check_wanted(self) -> None:
        """Stop before the first chunk where that was asked for.

        Raises:
            Stop: the run is to stop at its cursor.
        """
        self._stop.stop_where_asked(self._claimed.wanted)
