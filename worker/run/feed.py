"""Feeding a job from a source: the next batch is read and validated in a thread while the database works.

Owns the overlap and its clean end. Refuses to parse, to judge rows and to touch the database.
"""

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from worker.core.progress import Progress
from worker.source.batch import Batch, RowSource
from worker.source.validate import ValidatedBatch


class Validator(Protocol):
    """What turns a batch of raw rows into typed columns and faults."""

    def validate(self, batch: Batch) -> ValidatedBatch:
        """Blocking; called in a thread."""
        ...


@dataclass(frozen=True, slots=True)
class Portion:
    """One chunk's worth of a source: the batch as read, and its rows as the table wants them."""

    batch: Batch
    rows: ValidatedBatch


class Feed:
    """Portions of a source, one read ahead; use it as an async context manager and iterate over it.

    Args:
        source: opened at the run's cursor.
        validator: of its rows.
        progress: the run's: `chunk_rows` says how large the next portion is.
    """

    def __init__(self, source: RowSource, validator: Validator, progress: Progress) -> None:
        self._source = source
        self._validator = validator
        self._progress = progress
        self._ahead: asyncio.Future[Portion] | None = None
        self._ended = False

    async def __aenter__(self) -> Self:
        self._read_ahead()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        if self._ahead is not None:
            # a thread cannot be cancelled, and must not find its file closed: a portion takes some 100 ms at most
            await asyncio.wait([self._ahead])
            self._ahead.exception()
        await asyncio.to_thread(self._source.close)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Portion:
        """The next portion.

        Raises:
            SourceError: the source is damaged here.
        """
        if self._ended:
            raise StopAsyncIteration
        portion = await asyncio.shield(self._ahead or self._read_ahead())
        self._ahead = None
        self._ended = portion.batch.last
        return portion

    def read_ahead(self) -> None:
        """Begin to read the next portion as soon as the caller waits for something.

        Called right before a large statement: Python runs one thread at a time, so reading must begin when the
        statement was sent, not while it is being written. Not calling it costs time only.
        """
        asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        if self._ahead is None and not self._ended:
            self._read_ahead()

    def _read_ahead(self) -> asyncio.Future[Portion]:
        rows = self._progress.chunk_rows
        self._ahead = asyncio.get_running_loop().run_in_executor(None, self._read, rows)
        return self._ahead

    def _read(self, rows: int) -> Portion:
        batch = self._source.read(rows)
        return Portion(batch, self._validator.validate(batch))


def estimate_total(done: int, fraction: float | None) -> int | None:
    """How many rows a source has in all, from how much of it was read.

    Args:
        done: rows so far.
        fraction: how much of the source they are, 0 to 1; None where unknown.
    """
    return round(done / fraction) if fraction else None
