"""What a job is given: its run, its session, its progress, and the ways to work in chunks.

Owns the surface that users' jobs see. Refuses to implement it: the run layer hands in a `ChunkDriver`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from sqlalchemy import Table
from sqlalchemy.orm import InstrumentedAttribute
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar
from structlog.typing import FilteringBoundLogger

from worker.core.clock import Clock
from worker.core.cursor import Cursor
from worker.core.merge_counts import MergeCounts
from worker.core.progress import Progress
from worker.core.refused import RefusedRow
from worker.core.settings import Settings
from worker.core.table_facts import TableFacts
from worker.declare.tables import Tables

T = TypeVar("T")
Key = InstrumentedAttribute[object] | tuple[InstrumentedAttribute[object], ...]


@dataclass(frozen=True, slots=True)
class Chunk(Generic[T]):
    """One chunk of a walk: rows that one transaction reads, changes and commits.

    Attributes:
        rows: in key order; changes to them are written when the chunk ends.
        number: 1 for the run's first chunk.
    """

    rows: list[T]
    number: int


class ChunkDriver(Protocol):
    """How chunks are committed; the run layer's part of a context."""

    @property
    def stopping(self) -> bool:
        """Whether this worker was told to stop."""
        ...

    def chunks(self, statement: SelectOfScalar[T], key: Key, *, lock: bool) -> AsyncIterator[Chunk[T]]:
        """Walk a query by key, one transaction a chunk."""
        ...

    async def commit_chunk(
        self, apply: Callable[[], Awaitable[None]], *, cursor: Cursor, rows: int, last: bool
    ) -> None:
        """Run one chunk's statements and commit them with the cursor."""
        ...


class Upsert(Protocol):
    """A prepared upsert of one table."""

    async def apply(self, values: Sequence[Sequence[object]]) -> MergeCounts:
        """Upsert some rows in the chunk's transaction, given as one sequence a column."""
        ...


class Tools(Protocol):
    """What the shipped jobs are made of; the run layer's part of a context."""

    async def table_facts(self, table: Table) -> TableFacts:
        """The table as the database declares it."""
        ...

    def upsert(
        self, table: Table, facts: TableFacts, *, columns: Sequence[str], key: Sequence[str], update: Sequence[str]
    ) -> Upsert:
        """Prepare an upsert of a registered table."""
        ...

    async def quarantine(self, rows: Sequence[RefusedRow]) -> None:
        """Put refused rows aside in the chunk's transaction."""
        ...


@dataclass(slots=True)
class JobContext:
    """One run on one worker, as its job sees it.

    Attributes:
        run_id: the run's id.
        job: the job's name.
        attempt: 1 for the first; interruptions and snoozes do not count.
        started_at: when the run first started; the same on every attempt, so cut-offs computed from it are frozen.
        session: this run's own session. Without a chunk loop it is one transaction, committed with the run's
            success when the job returns; `commit`, `rollback` and `begin` on it raise.
        progress: what the run counts and how far it is.
        log: bound to the run and the job.
        settings: the worker's.
        tables: the registered tables.
        clock: time and chance.
        driver: how chunks are committed.
        tools: what the shipped jobs are made of, for jobs of their kind.
    """

    run_id: str
    job: str
    attempt: int
    started_at: datetime
    session: AsyncSession
    progress: Progress
    log: FilteringBoundLogger
    settings: Settings
    tables: Tables
    clock: Clock
    driver: ChunkDriver
    tools: Tools

    @property
    def stopping(self) -> bool:
        """Whether this worker was told to stop: a long step outside of chunks should end soon."""
        return self.driver.stopping

    def chunks(self, statement: SelectOfScalar[T], key: object, *, lock: bool = True) -> AsyncIterator[Chunk[T]]:
        """Walk a query by key in short transactions, resumable after any interruption.

        Each chunk's rows are read in key order after the cursor, and what the loop's body changed is committed
        together with the new cursor. The last chunk commits with the run's result.

        Args:
            statement: a select of one model; no ORDER BY, LIMIT or OFFSET of its own.
            key: a column of the model, or a tuple of them, that is unique and NOT NULL; `Order.id`.
            lock: whether the rows are locked (FOR NO KEY UPDATE where the database has it) while the chunk runs.

        Yields:
            Chunks, until no row is left.
        """
        return self.driver.chunks(statement, key, lock=lock)  # type: ignore[arg-type]  # SQLModel types columns as values

    async def commit_chunk(
        self, apply: Callable[[], Awaitable[None]], *, cursor: Cursor, rows: int, last: bool = False
    ) -> None:
        """Run one chunk of one's own making, and commit it with the cursor from which the next one starts.

        Args:
            apply: runs the chunk's statements on `session` and counts on `progress`.
            cursor: JSON-safe; `progress.cursor` when the run goes on.
            rows: how many rows the chunk deals with; added to `progress.done`.
            last: leave the transaction open, to be committed with the run's result.
        """
        await self.driver.commit_chunk(apply, cursor=cursor, rows=rows, last=last)
