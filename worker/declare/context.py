"""What a job is given: its run, its session, its progress, and the ways to work in chunks.

Owns the surface that users' jobs see. Refuses to implement it: the run layer hands in a `ChunkDriver`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar, TypeVarTuple, overload

from sqlalchemy import ColumnElement, Row, Select, Table
from sqlmodel import SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar
from structlog.typing import FilteringBoundLogger

from worker.core.clock import Clock
from worker.core.cursor import Cursor
from worker.core.options import RunOptions
from worker.core.progress import Progress
from worker.core.settings import Settings
from worker.declare.tables import Tables
from worker.declare.tools import Tools
from worker.declare.walk import Span, Walk

T = TypeVar("T")
R = TypeVar("R")
Columns = TypeVarTuple("Columns")


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

    def works_on(self, table: Table) -> None:
        """Remember that the run reads or writes a table."""
        ...

    def chunks(self, statement: "Select[*tuple[Any, ...]]", key: object, *, lock: bool) -> AsyncIterator[Chunk[Any]]:
        """Walk a query by key, one transaction a chunk."""
        ...

    def stream(self, statement: "Select[*tuple[Any, ...]]", key: object) -> AsyncIterator[Chunk[Any]]:
        """Walk a query by key on a snapshot of its own, one writing transaction a chunk."""
        ...

    def spans(self, walk: Walk, matching: ColumnElement[bool]) -> AsyncIterator[Span]:
        """Walk a table by key, one transaction a span."""
        ...

    async def commit_chunk(
        self, apply: Callable[[], Awaitable[None]], *, cursor: Cursor, rows: int, last: bool
    ) -> None:
        """Run one chunk's statements and commit them with the cursor."""
        ...


@dataclass(slots=True)
class JobContext:
    """One run on one worker, as its job sees it.

    Attributes:
        run_id: the run's id.
        job: the job's name.
        attempt: 1 for the first; interruptions and snoozes do not count.
        fence: the number of this claim: it grows with each, so that what a claim names by it is its own.
        actor: who asked for the run, for audit rows; the worker's name where nobody said.
        options: the run's options.
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
    fence: int
    actor: str
    options: RunOptions
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

    def works_on(self, *tables: Table | type[SQLModel]) -> None:
        """Say which tables the run works on, so that it keeps out of the way of a vacuum of one of them.

        Args:
            tables: models, or registered tables' own. `ctx.chunks` and `ctx.spans` name theirs by themselves.
        """
        for table in tables:
            of_model: Table = table if isinstance(table, Table) else table.__table__  # type: ignore[attr-defined]  # SQLModel sets it
            self.driver.works_on(of_model)

    def chunks(self, statement: SelectOfScalar[T], key: object, *, lock: bool = True) -> AsyncIterator[Chunk[T]]:
        """Walk a query by key in short transactions, resumable after any interruption.

        Each chunk's rows are read in key order after the cursor, and what the loop's body changed is committed
        together with the new cursor. The last chunk commits with the run's result.

        Args:
            statement: a select of one model; no ORDER BY, LIMIT or OFFSET of its own.
            key: a column of the model, or a tuple of them, that is unique and NOT NULL; `Order.id`. Of any type that
                has an order: its values are compared as the column compares them, and kept in the cursor exactly.
            lock: whether the rows are locked (FOR NO KEY UPDATE where the database has it) while the chunk runs.

        Yields:
            Chunks, until no row is left.

        Raises:
            UnorderedKeyError: rows would be skipped: nothing in the database makes the key unique, or it is NULL in
                rows of the query.
        """
        return self.driver.chunks(statement, key, lock=lock)

    @overload
    # SQLModel's select of one model is tried first
    def stream(self, statement: SelectOfScalar[T], key: object) -> AsyncIterator[Chunk[T]]: ...  # type: ignore[overload-overlap]

    @overload
    def stream(self, statement: "Select[*Columns]", key: object) -> AsyncIterator["Chunk[Row[*Columns]]"]: ...

    def stream(self, statement: "Select[*tuple[Any, ...]]", key: object) -> AsyncIterator[Chunk[Any]]:
        """Read a query as it was at one moment, and write in short transactions; resumable after any interruption.

        The rows come through a server-side cursor on a connection of its own, from a snapshot that sees nothing of
        what happens meanwhile, the loop's own writes included. They are to be read: a change to one is not written,
        and lazy loading does not work. What the loop's body writes on `session` commits chunk by chunk with the
        cursor, as with `chunks`. After an interruption the walk goes on behind the last committed key, on a new
        snapshot. A run streams one query at a time.

        Nothing is locked, so a row may have changed since, or be gone, when it is written to. While the stream is
        open the database keeps the dead rows that its snapshot can see; a chunk that takes longer than ten leases
        (WORKER_LEASE_S) loses its snapshot, and the walk goes on on a new one.

        Args:
            statement: a select of one model, which gives its objects, or of columns, which gives rows; no ORDER BY,
                LIMIT or OFFSET of its own. What relations are needed is loaded with it, by `selectinload`.
            key: as for `chunks`. An index should have it: without one all rows are sorted first.

        Yields:
            Chunks, until no row is left.

        Raises:
            UnorderedKeyError: as for `chunks`.
        """
        return self.driver.stream(statement, key)

    def spans(self, walk: Walk, matching: ColumnElement[bool]) -> AsyncIterator[Span]:
        """Walk a registered table by key in short transactions, without loading its rows; resumable.

        For statements over many rows. The loop's body runs them on `session`, over `span.condition`; they are committed
        together with the new cursor when the loop goes on, and the last ones with the run's result.

        Args:
            walk: the table and its order; `primary_walk(table, facts)`.
            matching: which rows are meant.

        Yields:
            Spans, until the table's last key at the time when the run started.
        """
        return self.driver.spans(walk, matching)

    @property
    def kept(self) -> dict[str, object]:
        """What a walk's last committed span, or a feed's last portion, had in `keep`; empty before the first."""
        keep = (self.progress.cursor or {}).get("keep")
        return dict(keep) if isinstance(keep, dict) else {}

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
