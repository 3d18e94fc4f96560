"""What shipped and users' jobs may ask for beyond their session: the table as it is, a merge, the quarantine.

Owns the run's side of these tools. Refuses SQL: the dialect and the ledger have it.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar, TypeVarTuple

from sqlalchemy import Column, ColumnElement, CursorResult, Row, Select, Table
from sqlalchemy.sql.base import Executable
from structlog.typing import FilteringBoundLogger

from worker.core.isolated import Isolated, Refused
from worker.core.preflight import Change, Surroundings
from worker.core.refused import RefusedRow
from worker.core.settings import Settings
from worker.core.table_facts import ColumnFacts, TableFacts
from worker.core.transfer_terms import book_terms
from worker.core.where import Condition
from worker.database.book_statements import Origin
from worker.database.books import Books
from worker.database.claims import Claimed
from worker.database.ledger import Ledger, write_note
from worker.database.moves import Move
from worker.database.quarantine import put_aside
from worker.database.session import RunSession, fetch
from worker.declare.tables import RegisteredTable
from worker.declare.tools import LedgerUpkeep, RowUpdate, Upsert, WhereUpdate
from worker.declare.walk import KeyValues, Span, Walk, primary_walk
from worker.run.choose_walk import choose_walk
from worker.run.isolate import isolate
from worker.run.mover import Mover, open_mover
from worker.run.open_books import OpenBooks
from worker.run.preflight import preflight
from worker.run.prepared import PreparedRows, PreparedWhere
from worker.run.refused_rows import refused_rows
from worker.run.span_work import apply_span, lock_span
from worker.run.upkeep import HeldRuns, Upkeep

T = TypeVar("T")
R = TypeVar("R")
Columns = TypeVarTuple("Columns")


class JobTools:
    """The tools of one run.

    Args:
        ledger: of the worker's database.
        session: the run's.
        claimed: the run.
        settings: whose timeouts hold.
        log: bound to the run.
        held_runs: asks the queue which runs it knows; None where there is no queue to ask.
    """

    def __init__(
        self,
        ledger: Ledger,
        session: RunSession,
        claimed: Claimed,
        settings: Settings,
        log: FilteringBoundLogger,
        held_runs: HeldRuns | None = None,
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._log = log
        self._database = ledger.database
        self._session = session
        self._claimed = claimed
        self.upkeep: LedgerUpkeep = Upkeep(session, claimed.fence.run_id, held_runs)

    async def table_facts(self, table: Table) -> TableFacts:
        """The table as the database declares it.

        Raises:
            RequestError: the database has no such table.
        """
        # on a connection of its own: the run's transaction must not stay open while a file is being sought through
        async with self._database.reading() as connection:
            return await self._database.dialect.table_facts(connection, table)

    def upsert(
        self, table: Table, facts: TableFacts, *, columns: Sequence[str], key: Sequence[str], update: Sequence[str]
    ) -> Upsert:
        """Prepare an upsert.

        Args:
            table: a registered one.
            facts: what the database says of it.
            columns: the columns that values will be given for, in their order.
            key: those that tell rows apart, covered by a unique constraint.
            update: those that an existing row takes from an incoming one.
        """
        merge = self._database.dialect.merge(table, facts, columns=columns, key=key, update=update)
        return PreparedRows(merge, self._session, self._database)

    def row_update(self, table: Table, facts: TableFacts, *, columns: Sequence[str], key: Sequence[str]) -> RowUpdate:
        """Prepare an update of rows with values of their own.

        Args:
            table: a registered one.
            facts: what the database says of it.
            columns: the columns that values will be given for, in their order; those beside the key are updated.
            key: those that tell rows apart, covered by a unique constraint.
        """
        update = self._database.dialect.row_update(table, facts, columns=columns, key=key)
        return PreparedRows(update, self._session, self._database)

    def where_update(self, table: Table, facts: TableFacts, values: Mapping[str, object]) -> WhereUpdate:
        """Prepare an update that gives many rows the same values.

        Args:
            table: a registered one, with a primary key.
            facts: what the database says of it.
            values: validated values by column name.
        """
        return PreparedWhere(self._database.dialect.where_update(table, facts, values), self._session)

    def books(self, table: Table, facts: TableFacts, column: str, actor: str) -> OpenBooks:
        """The books of a table's accounts, written in the name of this run.

        Args:
            table: a registered one.
            facts: what the database says of it.
            column: its money column.
            actor: who asked for the run.

        Raises:
            RequestError: the table's accounts cannot be booked exactly.
        """
        terms = book_terms(facts, column)
        origin = Origin(actor, self._claimed.fence.run_id)
        books = Books(self._database.dialect.books(table, terms), terms, origin)
        return OpenBooks(books, self._session, self._database, deferred=facts.deferred)

    async def quarantine(self, rows: Sequence[RefusedRow]) -> None:
        """Put refused rows aside in the chunk's transaction."""
        await put_aside(self._session, self._claimed.fence.run_id, self._claimed.progress.chunk + 1, rows)

    async def execute(self, statement: Executable) -> CursorResult[tuple[object, ...]]:
        """Run a statement in the chunk's transaction, past the ORM.

        What the session has pending is written first, so that statements take effect in the order of the code.
        """
        await self._session.flush()
        return await (await self._session.connection()).execute(statement)

    async def fetch(self, statement: Select[*Columns]) -> Sequence[Row[*Columns]]:
        """Run a query in a short read-only transaction of its own, apart from the chunk's."""
        return await fetch(self._database, self._settings, statement)

    async def check_deferred(self, facts: TableFacts) -> None:
        """Check now what a table has checked at COMMIT only, when it is too late to isolate a row.

        Args:
            facts: of the table; where nothing of it is deferred, nothing is sent.
        """
        if facts.deferred:
            await self._database.dialect.check_deferred(await self._session.connection())

    async def isolate(
        self,
        items: Sequence[T],
        apply: Callable[[Sequence[T]], Awaitable[R]],
        *,
        again: Callable[[T], bool] | None = None,
    ) -> Isolated[T, R]:
        """Apply items in the chunk's transaction, leaving out those that the database refuses; see `isolate`."""
        return await isolate(self._session, self._database, items, apply, again=again)

    async def lock_span(self, span: Span, *, keys_stay: bool) -> int:
        """Lock the rows of a span that are meant, in key order; see `lock_span`."""
        return await lock_span(self._session, span, keys_stay=keys_stay)

    async def apply_span(
        self, span: Span, apply: Callable[[ColumnElement[bool]], Awaitable[R]]
    ) -> Isolated[KeyValues, R]:
        """Apply a statement to the locked rows of a span; see `apply_span`."""
        return await apply_span(self._session, self._database, span, apply)

    def encode(self, column: Column[Any], facts: ColumnFacts, values: Sequence[object]) -> Sequence[object]:
        """Validated values of one column as the driver takes them, and as keys are compared.

        Args:
            column: of a registered table.
            facts: the same column as the database declares it.
            values: of the column's Python type.
        """
        return self._database.dialect.encoder(column, facts, self._database.engine.dialect)(values)

    async def mover(
        self, target: RegisteredTable, facts: TableFacts, *, column: str, value: object, reason: str
    ) -> Mover:
        """Prepare to move rows to one value of a column, each with an audit row.

        Args:
            target: the table; it has a primary key, of which the column is no part.
            facts: what the database says of it.
            column: the one to change.
            value: validated.
            reason: goes into the audit rows.
        """
        walk = primary_walk(target.table, facts)
        names = tuple(part.name for part in walk.key)
        run_id, actor = self._claimed.fence.run_id, self._claimed.enqueued_by or self._ledger.worker
        return await open_mover(
            self._session,
            self._database,
            self._settings,
            walk=walk,
            facts=facts,
            column=column,
            value=value,
            move=Move(run_id, actor, target.name, names, column, None, reason),
        )

    async def note(self, text: str) -> None:
        """Write down in the run's record what a person should know though the run goes on.

        In an open chunk it is written with the chunk: where a database has one writer, another transaction would wait
        for this one.
        """
        run_id = self._claimed.fence.run_id
        if self._session.in_transaction():
            await write_note(await self._session.connection(), run_id, text)
        else:
            await self._ledger.note(run_id, text)

    async def preflight(self, table: Table, change: Change, columns: Collection[str] | None = None) -> Surroundings:
        """Look around a table before the run's first chunk; see `preflight`."""
        return await preflight(self._ledger, self._claimed, self._log, table, change, columns)

    async def choose_walk(self, table: Table, facts: TableFacts, condition: Condition) -> Walk:
        """The walk that visits the fewest rows for a condition; see `choose_walk`."""
        claimed = self._claimed
        return await choose_walk(self._database, table, facts, condition, claimed.started_at, claimed.progress.cursor)

    async def quarantine_keys(self, walk: Walk, refused: Sequence[Refused[KeyValues]]) -> None:
        """Put rows aside that `apply_span` found refused; count them as `quarantined`."""
        await self.quarantine(await refused_rows(self._session, walk, refused))
        self._claimed.progress.count(quarantined=len(refused))

    async def move_rows(
        self, table: Table, archive: Table, columns: Sequence[str], condition: ColumnElement[bool]
    ) -> tuple[int, int]:
        """Delete rows and insert each into another table; how many it did of either."""
        await self._session.flush()
        connection = await self._session.connection()
        return await self._database.dialect.move_rows(connection, table, archive, columns, condition)

    async def take_rows(
        self,
        table: Table,
        selected: Sequence[ColumnElement[object]],
        condition: ColumnElement[bool],
        order: Sequence[ColumnElement[object]],
    ) -> Sequence[Sequence[object]]:
        """Delete rows and return something of each, sorted by the columns of `order`."""
        await self._session.flush()
        connection = await self._session.connection()
        return await self._database.dialect.take_rows(connection, table, selected, condition, order)

    async def check_now(self) -> None:
        """Have deferred constraints checked by each statement of the chunk: a refused row is found, not a COMMIT."""
        await self._database.dialect.check_deferred(await self._session.connection())

    def advice_after_delete(self, table: Table) -> str:
        """What a person may do for a table that has just lost many rows."""
        return self._database.dialect.advice_after_delete(table)
