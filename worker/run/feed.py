"""Feeding a job from a source: the next batch is read and judged while the database works on this one.

Owns the overlap and its clean end, and that a portion is committed with its place in the source. Refuses to parse, to
judge rows and to touch the database.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from worker.core.breaker import check_refused
from worker.core.cursor import Cursor
from worker.core.errors import TooManyRefusedError
from worker.core.isolated import Refused
from worker.core.refused import RefusedRow
from worker.declare.context import JobContext
from worker.source.batch import Batch, Source
from worker.source.validate import ValidatedBatch
from worker.source.validate_faults import row_payload


class Validator(Protocol):
    """What turns a batch of raw rows into typed columns and faults."""

    def validate(self, batch: Batch) -> ValidatedBatch:
        """Blocking; called in a thread."""
        ...


@dataclass(frozen=True, slots=True)
class Portion:
    """One chunk's worth of a source: the batch as read, and its rows as the table wants them.

    Attributes:
        batch: as read.
        rows: the sound rows as typed columns, and the faults of the others.
        columns: that the source carries.
        empty_is_text: whether an absent value is an empty cell.
    """

    batch: Batch
    rows: ValidatedBatch
    columns: tuple[str, ...]
    empty_is_text: bool

    def quarantine(self, refused: Sequence[Refused[int]] = ()) -> list[RefusedRow]:
        """The rows of this portion for the quarantine, by position.

        Args:
            refused: what the database refused of the sound rows, as indexes of them; besides the faulty ones.
        """
        rows = [RefusedRow(fault.position, fault.reason, fault.payload) for fault in self.rows.faults]
        if refused:
            raw = dict(zip(self.batch.positions, self.batch.rows, strict=True))
            rows += [self._refused(raw, found) for found in refused]
        return sorted(rows, key=lambda row: row.position)

    def _refused(self, raw: dict[int, tuple[object, ...]], found: Refused[int]) -> RefusedRow:
        position, error = self.rows.positions[found.item], found.error
        held = row_payload(self.columns, raw[position], empty_is_text=self.empty_is_text)
        return RefusedRow.by_database(position, held, error)


Apply = Callable[[Portion], Awaitable[None]]


class Feed:
    """Portions of a source, one read ahead; use it as an async context manager and iterate over it.

    Attributes:
        keep: what the job wants to find in `ctx.kept` when the run goes on; saved with the cursor when a portion is
            committed. JSON-safe.

    Args:
        ctx: the run: `ctx.progress.chunk_rows` says how large the next portion is.
        source: as `open_source` opened it for this run.
        validator: of its rows.
    """

    def __init__(self, ctx: JobContext, source: Source, validator: Validator) -> None:
        self._ctx = ctx
        self._source = source
        self._validator = validator
        self.keep = ctx.kept
        self._ahead: asyncio.Task[Portion] | None = None
        self._ended = False

    async def __aenter__(self) -> Self:
        self._read_ahead()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        if self._ahead is not None:
            self._ahead.cancel()
            await asyncio.gather(self._ahead, return_exceptions=True)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Portion:
        """The next portion.

        Raises:
            SourceError: the source is damaged here.
        """
        if self._ended:
            raise StopAsyncIteration
        portion = await (self._ahead or self._read_ahead())
        self._ahead = None
        self._ended = portion.batch.last
        return portion

    async def commit(self, portion: Portion, apply: Apply) -> None:
        """Run one chunk over a portion, and commit it with its place in the source.

        Args:
            portion: the one that the iteration gave last.
            apply: runs the chunk's statements over the portion that it is given, and counts on `ctx.progress`.
        """
        left = await self._source.settle(portion.batch)
        if left is not portion.batch:
            portion = await self._judge(left)
        batch, progress = portion.batch, self._ctx.progress

        async def work() -> None:
            await apply(portion)
            progress.total = estimate_total(progress.done + batch.read, batch.fraction)

        await self._ctx.commit_chunk(work, cursor=self._cursor(batch), rows=batch.read, last=batch.last)

    async def check_refused(self, portion: Portion, *, read: int, refused: int) -> None:
        """After a chunk: end the run where most of its rows are refused, with the chunk committed.

        Args:
            portion: the one that was committed last.
            read: rows of the run so far, refused ones counted.
            refused: of these, the ones in quarantine.

        Raises:
            TooManyRefusedError: more than half of at least fifty were refused.
        """
        try:
            check_refused(self._ctx.run_id, read, refused)
        except TooManyRefusedError:
            if portion.batch.last:
                # its chunk is open still, waiting for a result that will not come
                await self._ctx.commit_chunk(_nothing, cursor=self._cursor(portion.batch), rows=0)
            raise

    def read_ahead(self) -> None:
        """Begin to read the next portion as soon as the caller waits for something.

        Called right before a large statement: Python runs one thread at a time, so reading must begin when the
        statement was sent, not while it is being written. Not calling it costs time only.
        """
        asyncio.get_running_loop().call_soon(self._begin)

    def _cursor(self, batch: Batch) -> Cursor:
        # the very `keep` that the chunk may still change: it is written when the chunk is
        return {**batch.cursor, "keep": self.keep} if self.keep else batch.cursor

    def _begin(self) -> None:
        if self._ahead is None and not self._ended:
            self._read_ahead()

    def _read_ahead(self) -> asyncio.Task[Portion]:
        self._ahead = asyncio.get_running_loop().create_task(self._read(self._ctx.progress.chunk_rows))
        return self._ahead

    async def _read(self, rows: int) -> Portion:
        return await self._judge(await self._source.read(rows))

    async def _judge(self, batch: Batch) -> Portion:
        rows = await asyncio.to_thread(self._validator.validate, batch)
        return Portion(batch, rows, self._source.columns, self._source.empty_is_text)


async def _nothing() -> None:
    """A chunk without rows."""


def estimate_total(done: int, fraction: float | None) -> int | None:
    """How many rows a source has in all, from how much of it was read.

    Args:
        done: rows so far.
        fraction: how much of the source they are, 0 to 1; None where unknown.
    """
    return round(done / fraction) if fraction else None
