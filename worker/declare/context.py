"""What a job is given: its run, its session, its progress, and the ways to work in chunks.

Owns the surface that users' jobs see. Refuses to implement it: the run layer hands in a `ChunkDriver`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar, TypeVarTuple, overload

from sqlalchemy import Column, ColumnElement, CursorResult, Row, Select, Table
from sqlalchemy.sql.base import Executable
from sqlmodel import SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar
from structlog.typing import FilteringBoundLogger

from worker.core.clock import Clock
from worker.core.cursor import Cursor
from worker.core.isolated import Isolated, Refused
from worker.core.merge_counts import MergeCounts
from worker.core.moving import MovingRow
from worker.core.options import RunOptions
from worker.core.preflight import Change, Surroundings
from worker.core.progress import Progress
from worker.core.refused import RefusedRow
from worker.core.settings import Settings
from worker.core.table_facts import ColumnFacts, TableFacts
from worker.core.transfer_terms import BookTerms
from worker.core.transfer_verdicts import Verdict
from worker.core.transfers import Transfer
from worker.core.update_counts import UpdateCounts
from worker.core.where import Condition
from worker.declare.tables import RegisteredTable, Tables
from worker.declare.walk import KeyValues, Span, Walk

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


class Upsert(Protocol):
    """A prepared upsert of one table."""

    async def apply(self, values: Sequence[Sequence[object]]) -> MergeCounts:
        """Upsert some rows in the chunk's transaction, given as one sequence a column."""
        ...

    async def in_key_order(self, values: Sequence[Sequence[object]]) -> list[list[int]]:
        """The indexes of some rows in the order of their keys, those of one key together, in their own order."""
        ...


class LedgerPage(Protocol):
    """Some old rows of the ledger, locked in the run's transaction."""

    @property
    def seen(self) -> int:
        """How many were looked at; 0 means that nothing is left."""
        ...

    @property
    def after(self) -> dict[str, object]:
        """Where the next page starts; JSON-safe."""
        ...

    @property
    def forget(self) -> Callable[[], Awaitable[int]]:
        """Deletes those that may go, and returns how many."""
        ...


class LedgerUpkeep(Protocol):
    """The ledger's own housekeeping, a page at a time."""

    async def old_refused_rows(self, before: datetime, after: Mapping[str, object], rows: int) -> LedgerPage:
        """A page of the refused rows that were put aside before a moment."""
        ...

    async def old_runs(self, before: datetime, after: Mapping[str, object], rows: int) -> LedgerPage:
        """A page of the runs that ended before a moment and have no refused row left."""
        ...


class RowUpdate(Protocol):
    """A prepared update of one table: each row has values of its own, and none is inserted."""

    async def apply(self, values: Sequence[Sequence[object]]) -> UpdateCounts:
        """Update some rows in the chunk's transaction, given as one sequence a column."""
        ...

    async def in_key_order(self, values: Sequence[Sequence[object]]) -> list[list[int]]:
        """The indexes of some rows in the order of their keys, those of one key together, in their own order."""
        ...


class WhereUpdate(Protocol):
    """A prepared update of one table: all rows that are meant get the same values."""

    async def apply(self, condition: ColumnElement[bool]) -> UpdateCounts:
        """Lock and update the rows for which a condition holds, in the chunk's transaction."""
        ...


class Books(Protocol):
    """The books of one table's accounts."""

    @property
    def terms(self) -> BookTerms:
        """How they are kept, and so what a request may say."""
        ...

    async def post(self, transfers: Sequence[Transfer]) -> list[Verdict]:
        """Carry transfers out in the chunk's transaction, in their order; a verdict for each."""
        ...

    async def post_each(self, transfers: Sequence[Transfer]) -> list[Verdict]:
        """The same, leaving out those that the database refuses."""
        ...


class Mover(Protocol):
    """Moves rows of one table to one value of a column, each with an audit row."""

    async def lock_where(self, condition: ColumnElement[bool]) -> list[MovingRow]:
        """Lock the rows for which a condition holds, in key order, in the chunk's transaction."""
        ...

    async def lock_keys(self, keys: Sequence[KeyValues]) -> tuple[list[MovingRow], int]:
        """Lock the rows that some keys name, in key order; and how many of the keys name none."""
        ...

    async def apply(self, rows: Sequence[MovingRow]) -> int:
        """Move locked rows that differ, and write down that they were; how many."""
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

    def row_update(self, table: Table, facts: TableFacts, *, columns: Sequence[str], key: Sequence[str]) -> RowUpdate:
        """Prepare an update of a registered table's rows with values of their own."""
        ...

    def where_update(self, table: Table, facts: TableFacts, values: Mapping[str, object]) -> WhereUpdate:
        """Prepare an update that gives many rows of a registered table the same values."""
        ...

    def books(self, table: Table, facts: TableFacts, column: str, actor: str) -> Books:
        """The books of a registered table's accounts, by one of its money columns."""
        ...

    async def quarantine(self, rows: Sequence[RefusedRow]) -> None:
        """Put refused rows aside in the chunk's transaction."""
        ...

    @property
    def upkeep(self) -> LedgerUpkeep:
        """The ledger's own housekeeping."""
        ...

    async def execute(self, statement: Executable) -> CursorResult[tuple[object, ...]]:
        """Run a statement in the chunk's transaction, past the ORM."""
        ...

    async def fetch(self, statement: Select[*Columns]) -> Sequence[Row[*Columns]]:
        """Run a query in a short read-only transaction of its own, apart from the chunk's."""
        ...

    async def check_deferred(self, facts: TableFacts) -> None:
        """Check now what a table has checked at COMMIT only, when it is too late to isolate a row."""
        ...

    async def isolate(
        self,
        items: Sequence[T],
        apply: Callable[[Sequence[T]], Awaitable[R]],
        *,
        again: Callable[[T], bool] | None = None,
    ) -> Isolated[T, R]:
        """Apply items in the chunk's transaction, leaving out those that the database refuses."""
        ...

    async def lock_span(self, span: Span, *, keys_stay: bool) -> int:
        """Lock the rows of a span that are meant, in key order; how many there are."""
        ...

    async def apply_span(
        self, span: Span, apply: Callable[[ColumnElement[bool]], Awaitable[R]]
    ) -> Isolated[KeyValues, R]:
        """Apply a statement to the locked rows of a span, leaving out those that the database refuses."""
        ...

    def encode(self, column: Column[Any], facts: ColumnFacts, values: Sequence[object]) -> Sequence[object]:
        """Validated values of one column as the driver takes them, and as keys are compared."""
        ...

    async def mover(
        self, target: RegisteredTable, facts: TableFacts, *, column: str, value: object, reason: str
    ) -> Mover:
        """Prepare to move rows to one value of a column, each with an audit row."""
        ...

    async def note(self, text: str) -> None:
        """Write down in the run's record what a person should know though the run goes on."""
        ...

    async def preflight(self, table: Table, change: Change, columns: Collection[str] | None = None) -> Surroundings:
        """Look around a table: before the run's first chunk, refuse what would go wrong and note what may surprise."""
        ...

    async def choose_walk(self, table: Table, facts: TableFacts, condition: Condition) -> Walk:
        """The walk that visits the fewest rows for a condition, the same for every attempt of the run."""
        ...

    async def quarantine_keys(self, walk: Walk, refused: Sequence[Refused[KeyValues]]) -> None:
        """Put rows aside that `apply_span` found refused; count them as `quarantined`."""
        ...

    async def move_rows(
        self, table: Table, archive: Table, columns: Sequence[str], condition: ColumnElement[bool]
    ) -> tuple[int, int]:
        """Delete rows and insert each into another table in one statement; how many it did of either."""
        ...

    async def take_rows(
        self,
        table: Table,
        selected: Sequence[ColumnElement[object]],
        condition: ColumnElement[bool],
        order: Sequence[ColumnElement[object]],
    ) -> Sequence[Sequence[object]]:
        """Delete rows and return something of each, sorted by the columns of `order`."""
        ...

    async def check_now(self) -> None:
        """Have deferred constraints checked by each statement of the chunk."""
        ...

    def advice_after_delete(self, table: Table) -> str:
        """What a person may do for a table that has just lost many rows."""
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
