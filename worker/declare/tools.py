"""What the shipped jobs are made of: prepared statements, the books, the ledger's upkeep, and more, as protocols.

Owns the surface that `ctx.tools` has. Refuses to implement it: the run layer does.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar, TypeVarTuple

from sqlalchemy import Column, ColumnElement, CursorResult, Row, Select, Table
from sqlalchemy.sql.base import Executable

from worker.core.isolated import Isolated, Refused
from worker.core.merge_counts import MergeCounts
from worker.core.moving import MovingRow
from worker.core.preflight import Change, Surroundings
from worker.core.refused import RefusedRow
from worker.core.table_facts import ColumnFacts, TableFacts
from worker.core.transfer_terms import BookTerms
from worker.core.transfer_verdicts import Verdict
from worker.core.transfers import Transfer
from worker.core.update_counts import UpdateCounts
from worker.core.where import Condition
from worker.declare.tables import RegisteredTable
from worker.declare.walk import KeyValues, Span, Walk

T = TypeVar("T")
R = TypeVar("R")
Columns = TypeVarTuple("Columns")


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
        """Delete rows and insert each into another table; how many it did of either."""
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
