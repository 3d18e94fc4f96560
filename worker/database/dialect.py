"""What the rest of the database layer asks of a database: one protocol, one package for each that keeps it.

Owns the seam. Everything that one database does differently from another stands behind it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Column, ColumnElement, Connection, FromClause, Select, Table
from sqlalchemy import Dialect as SqlDialect
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import ManagesConnection

from worker.core.merge_counts import MergeCounts
from worker.core.outcomes import Outcome, Status
from worker.core.preflight import Change, Surroundings
from worker.core.pressure import Indicator, Measure, Unread
from worker.core.progress import Progress
from worker.core.settings import Settings
from worker.core.table_facts import ColumnFacts, TableFacts
from worker.core.transfer_terms import BookTerms
from worker.core.update_counts import UpdateCounts
from worker.core.walk_choice import LeadingColumn
from worker.database.book_statements import BookStatements
from worker.database.claims import Claim, Claimed, Delivery, Fence, Held, PutAside, Terms
from worker.database.classify import ErrorTable

Encoder = Callable[[Sequence[object]], Sequence[object]]
"""Turns values of one column's Python type into the driver's."""


class Merge(Protocol):
    """A prepared upsert of one table, for one set of columns."""

    async def apply(self, connection: AsyncConnection, values: Sequence[Sequence[object]]) -> MergeCounts:
        """Upsert some rows, given as one sequence a column; counts exactly."""
        ...

    async def in_key_order(self, connection: AsyncConnection, values: Sequence[Sequence[object]]) -> list[list[int]]:
        """The indexes of some rows in the order of their keys, those of one key together, in their own order."""
        ...


class RowUpdate(Protocol):
    """A prepared update of one table, for one set of columns: each row has values of its own."""

    async def apply(self, connection: AsyncConnection, values: Sequence[Sequence[object]]) -> UpdateCounts:
        """Update some rows, given as one sequence a column; counts exactly, and inserts none."""
        ...

    async def in_key_order(self, connection: AsyncConnection, values: Sequence[Sequence[object]]) -> list[list[int]]:
        """The indexes of some rows in the order of their keys, those of one key together, in their own order."""
        ...


class WhereUpdate(Protocol):
    """A prepared update of one table: all rows that are meant get the same values."""

    async def apply(self, connection: AsyncConnection, condition: ColumnElement[bool]) -> UpdateCounts:
        """Update the rows for which a condition holds, locked in key order; counts exactly."""
        ...


class Dialect(Protocol):
    """One database's own ways."""

    @property
    def errors(self) -> ErrorTable:
        """What this database's errors call for."""
        ...

    def connection_options(self, settings: Settings, worker: str) -> dict[str, object]:
        """Keyword arguments of `create_async_engine`: driver options, isolation, application name."""
        ...

    def watch_engine(self, engine: AsyncEngine) -> None:
        """Register what each of the engine's connections and transactions needs said at its beginning."""
        ...

    def is_open(self, connection: ManagesConnection) -> bool:
        """Whether a pooled connection is open for all that the driver has heard; asks nobody."""
        ...

    def set_limits(self, connection: Connection, settings: Settings, *, durable: bool = True) -> None:
        """Set the lock, statement and idle timeouts of a transaction that has sent nothing yet, for itself alone.

        Where it is not `durable`, its COMMIT need not wait for the disk: a crash of the server may undo it, whole.
        """
        ...

    def forget_limits(self, connection: ManagesConnection) -> None:
        """Take back the limits of a transaction that ended before it sent anything."""
        ...

    @property
    def read_only(self) -> Mapping[str, object]:
        """Execution options of a connection whose transactions only read."""
        ...

    @property
    def snapshot_options(self) -> dict[str, object]:
        """Execution options of a connection whose transaction only reads, and sees one moment of the database."""
        ...

    def set_snapshot_limits(self, connection: Connection, settings: Settings) -> None:
        """Set the timeouts of a transaction that is read from over many chunks, before it sends anything."""
        ...

    async def avoid_long_sort(self, connection: AsyncConnection, statement: "Select[*tuple[Any, ...]]") -> None:
        """See that an ordered statement gives its first rows soon, however many it has; for the transaction."""
        ...

    async def lock_migrations(self, connection: AsyncConnection) -> None:
        """Hold every other migration of this database off until the transaction ends."""
        ...

    async def enqueue(self, connection: AsyncConnection, deliveries: Sequence[Delivery], terms: Terms) -> set[str]:
        """Write down those of some runs whose ids are new, one statement for all; returns these ids."""
        ...

    def claim(self, connection: Connection, deliveries: Sequence[Delivery], worker: str) -> list[Claim]:
        """Claim runs, one statement for all of them, in the order of their ids."""
        ...

    def put_aside(self, connection: Connection, asides: Sequence[PutAside], due_at: datetime) -> set[str]:
        """Show runs that cannot begin as waiting, one statement for all; the ids of those that are shown so."""
        ...

    def reclaim(self, connection: Connection, held: Fence) -> Claimed | None:
        """Claim again what this worker holds: settles a doubtful COMMIT. None when it is held no more."""
        ...

    def advance(self, connection: Connection, fence: Fence, progress: Progress) -> Held | None:
        """Move a run on by one chunk where the fence holds; None where it does not."""
        ...

    def tell(self, connection: Connection, fence: Fence, status: Status, waiting_for: str | None) -> Held | None:
        """Say why a run does not go on, where the fence holds; None where it does not."""
        ...

    def end(self, connection: Connection, claim: Claimed, outcome: Outcome, worker: str) -> bool:
        """Write an outcome down where the fence still holds; whether it does."""
        ...

    async def check_deferred(self, connection: AsyncConnection) -> None:
        """Check now, and from now on in this transaction at once, what would be checked at COMMIT."""
        ...

    async def read_pressure(
        self, connection: AsyncConnection, indicators: Sequence[Indicator]
    ) -> list[Measure | Unread]:
        """Read indicators of pressure, each apart and briefly; those that this database has not are passed over."""
        ...

    async def table_facts(self, connection: AsyncConnection, table: Table) -> TableFacts:
        """The table as the database declares it."""
        ...

    async def may_be_unique(self, connection: AsyncConnection, table: Table, columns: Collection[str]) -> bool:
        """Whether some of the columns may tell rows apart: something unique lies within them, or nobody can say."""
        ...

    def differs(
        self, current: ColumnElement[Any], incoming: ColumnElement[Any], facts: ColumnFacts
    ) -> ColumnElement[bool]:
        """Whether storing a value would change a column, even where the column's equality overlooks it."""
        ...

    def as_stored(self, value: ColumnElement[object], facts: ColumnFacts) -> ColumnElement[object]:
        """An expression's value as a column would have it: rounded to its digits and its fractions of a second."""
        ...

    def encoder(self, column: Column[object], facts: ColumnFacts, dialect: SqlDialect) -> Encoder:
        """How values of a column's Python type travel to the driver, as its `exact_type` binds them."""
        ...

    def merge(
        self, table: Table, facts: TableFacts, *, columns: Sequence[str], key: Sequence[str], update: Sequence[str]
    ) -> Merge:
        """Prepare an upsert."""
        ...

    def row_update(self, table: Table, facts: TableFacts, *, columns: Sequence[str], key: Sequence[str]) -> RowUpdate:
        """Prepare an update of rows with values of their own."""
        ...

    def where_update(self, table: Table, facts: TableFacts, values: Mapping[str, object]) -> WhereUpdate:
        """Prepare an update that gives many rows the same values."""
        ...

    def books(self, table: Table, terms: BookTerms) -> BookStatements:
        """The statements that keep the books of a table's accounts."""
        ...

    def account_text(self, key: ColumnElement[object]) -> ColumnElement[str]:
        """An account's key as the books write it, comparable with theirs."""
        ...

    def request_hash(self, transfers: FromClause) -> ColumnElement[str]:
        """The fingerprint of each row of the transfers' table, computed from its other columns."""
        ...

    async def missing_guards(self, connection: AsyncConnection) -> list[str]:
        """What is missing of what keeps the books from being edited, one line each."""
        ...

    async def leading_columns(self, connection: AsyncConnection, table: Table) -> list[LeadingColumn]:
        """The columns whose order an index of the table has, as far as something is known of their values."""
        ...

    async def estimate_rows(self, connection: AsyncConnection, table: Table, condition: ColumnElement[bool]) -> int:
        """About how many rows of a table pass a condition, without looking at any."""
        ...

    async def surroundings(self, connection: AsyncConnection, table: Table, change: Change) -> Surroundings:
        """What stands around a table and has a say when its rows change."""
        ...

    async def move_rows(
        self,
        connection: AsyncConnection,
        table: Table,
        archive: Table,
        columns: Sequence[str],
        condition: ColumnElement[bool],
    ) -> tuple[int, int]:
        """Delete rows and insert each into another table, in the connection's transaction; how many of either."""
        ...

    async def take_rows(
        self,
        connection: AsyncConnection,
        table: Table,
        selected: Sequence[ColumnElement[object]],
        condition: ColumnElement[bool],
        order: Sequence[ColumnElement[object]],
    ) -> Sequence[Sequence[object]]:
        """Delete rows, in the connection's transaction, and return something of each, in an order."""
        ...

    def advice_after_delete(self, table: Table) -> str:
        """What a person may do for a table that has just lost many rows, as the end of a sentence."""
        ...
