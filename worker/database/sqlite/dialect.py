"""SQLite's answers to what the database layer asks, gathered from the modules of this package."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, FromClause, Select, Table
from sqlalchemy import Dialect as SqlDialect
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import ManagesConnection

from worker.core.outcomes import Outcome, Status
from worker.core.preflight import Change, Surroundings
from worker.core.pressure import Indicator, Measure, Unread
from worker.core.progress import Progress
from worker.core.settings import Settings
from worker.core.table_facts import ColumnFacts, TableFacts
from worker.core.transfer_terms import BookTerms
from worker.core.walk_choice import LeadingColumn
from worker.database.claims import Claim, Claimed, Delivery, Fence, Held, PutAside, Terms
from worker.database.classify import ErrorTable
from worker.database.dialect import Encoder
from worker.database.sqlite import (
    aside,
    book_statements,
    books_guard,
    catalogue,
    column_types,
    enqueue,
    fencing,
    key_list,
    money_checks,
    moves_guard,
    planner,
    removal,
    surroundings,
    transactions,
)
from worker.database.sqlite.errors import SQLITE_ERRORS
from worker.database.sqlite.exact_types import as_stored
from worker.database.sqlite.merge import SqliteMerge
from worker.database.sqlite.row_update import SqliteRowUpdate, SqliteWhereUpdate
from worker.database.sqlite.sent_rows import differs
from worker.database.sqlite.sent_values import column_encoder

# imported for what they register
_ = (column_types, key_list, money_checks, moves_guard)


class Sqlite:
    """SQLite 3.38 and newer through aiosqlite: a file, written by one transaction at a time."""

    @property
    def errors(self) -> ErrorTable:
        """What SQLite's result codes call for."""
        return SQLITE_ERRORS

    def connection_options(self, settings: Settings, worker: str) -> dict[str, object]:
        """How a connection is opened; see `transactions.connection_options`. A file knows no application's name."""
        del worker
        return transactions.connection_options(settings)

    def watch_engine(self, engine: AsyncEngine) -> None:
        """See `transactions.watch_engine`."""
        transactions.watch_engine(engine)

    def is_open(self, connection: ManagesConnection) -> bool:
        """Unless it was given up: a file does not hang up."""
        return not transactions.driver_of(connection).orders.given_up

    def set_limits(self, connection: Connection, settings: Settings, *, durable: bool = True) -> None:
        """The statement timeout. How long a transaction waits for the lock is its connection's, from the beginning.

        An idle transaction is not ended: nobody but its own process could.
        """
        transactions.set_limits(connection, settings, durable=durable)

    def forget_limits(self, connection: ManagesConnection) -> None:
        """So that they are not the next transaction's."""
        transactions.driver_of(connection).orders.statement_s = None

    @property
    def read_only(self) -> Mapping[str, object]:
        """BEGIN, which waits for nobody, on a connection that refuses to write."""
        return transactions.READ_ONLY

    @property
    def snapshot_options(self) -> dict[str, object]:
        """The same: in SQLite's write-ahead log every transaction that reads sees one moment."""
        return dict(transactions.READ_ONLY)

    def set_snapshot_limits(self, connection: Connection, settings: Settings) -> None:
        """The same for each fetch."""
        transactions.set_limits(connection, settings)

    async def avoid_long_sort(self, connection: AsyncConnection, statement: "Select[*tuple[Any, ...]]") -> None:
        """Nothing: SQLite's planner takes an index that has the order rather than sort."""

    async def lock_migrations(self, connection: AsyncConnection) -> None:
        """Nothing more: the transaction has held the file's only write lock since its BEGIN IMMEDIATE."""

    async def enqueue(self, connection: AsyncConnection, deliveries: Sequence[Delivery], terms: Terms) -> set[str]:
        """Write down runs whose ids are new, one statement for all."""
        return await enqueue.enqueue(connection, deliveries, terms)

    def claim(self, connection: Connection, deliveries: Sequence[Delivery], worker: str) -> list[Claim]:
        """See `fencing.claim`."""
        return fencing.claim(connection, deliveries, worker)

    def put_aside(self, connection: Connection, asides: Sequence[PutAside], due_at: datetime) -> set[str]:
        """See `aside.put_aside`."""
        return aside.put_aside(connection, asides, due_at)

    def reclaim(self, connection: Connection, held: Fence) -> Claimed | None:
        """See `fencing.reclaim`."""
        return fencing.reclaim(connection, held)

    def advance(self, connection: Connection, fence: Fence, progress: Progress) -> Held | None:
        """See `fencing.advance`."""
        return fencing.advance(connection, fence, progress)

    def tell(self, connection: Connection, fence: Fence, status: Status, waiting_for: str | None) -> Held | None:
        """See `fencing.tell`."""
        return fencing.tell(connection, fence, status, waiting_for)

    def end(self, connection: Connection, claim: Claimed, outcome: Outcome, worker: str) -> bool:
        """See `fencing.end`."""
        return fencing.end(connection, claim, outcome, worker)

    async def check_deferred(self, connection: AsyncConnection) -> None:
        """Nothing: SQLite checks a deferred foreign key at COMMIT, and cannot be asked to before.

        A row that violates one fails the chunk as a whole there, with nothing written, and the run with it.
        """

    async def read_pressure(
        self, connection: AsyncConnection, indicators: Sequence[Indicator]
    ) -> list[Measure | Unread]:
        """None of them: a file has no sessions, no replicas and no archive to fall behind."""
        del connection, indicators
        return []

    async def table_facts(self, connection: AsyncConnection, table: Table) -> TableFacts:
        """The table as the schema has it."""
        return await catalogue.read_table_facts(connection, table)

    async def may_be_unique(self, connection: AsyncConnection, table: Table, columns: Collection[str]) -> bool:
        """See `catalogue.may_be_unique`."""
        return await catalogue.may_be_unique(connection, table, columns)

    def differs(
        self, current: ColumnElement[Any], incoming: ColumnElement[Any], facts: ColumnFacts
    ) -> ColumnElement[bool]:
        """See `sent_rows.differs`."""
        return differs(current, incoming, facts)

    def as_stored(self, value: ColumnElement[object], facts: ColumnFacts) -> ColumnElement[object]:
        """See `exact_types.as_stored`."""
        return as_stored(value, facts)

    def encoder(self, column: Column[object], facts: ColumnFacts, dialect: SqlDialect) -> Encoder:
        """See `sent_values.column_encoder`."""
        return column_encoder(column, facts, dialect)

    def merge(
        self, table: Table, facts: TableFacts, *, columns: Sequence[str], key: Sequence[str], update: Sequence[str]
    ) -> SqliteMerge:
        """See `merge.SqliteMerge`."""
        return SqliteMerge(table, facts, columns=columns, key=key, update=update)

    def row_update(
        self, table: Table, facts: TableFacts, *, columns: Sequence[str], key: Sequence[str]
    ) -> SqliteRowUpdate:
        """See `row_update.SqliteRowUpdate`."""
        return SqliteRowUpdate(table, facts, columns=columns, key=key)

    def where_update(self, table: Table, facts: TableFacts, values: Mapping[str, object]) -> SqliteWhereUpdate:
        """See `row_update.SqliteWhereUpdate`."""
        return SqliteWhereUpdate(table, facts, values)

    def books(self, table: Table, terms: BookTerms) -> book_statements.SqliteBooks:
        """See `book_statements.SqliteBooks`."""
        return book_statements.SqliteBooks(table, terms)

    def account_text(self, key: ColumnElement[object]) -> ColumnElement[str]:
        """See `book_statements.account_text`."""
        return book_statements.account_text(key)

    def request_hash(self, transfers: FromClause) -> ColumnElement[str]:
        """See `book_statements.request_hash`."""
        return book_statements.request_hash(transfers)

    async def missing_guards(self, connection: AsyncConnection) -> list[str]:
        """See `books_guard.missing_guards`."""
        return await books_guard.missing_guards(connection)

    async def leading_columns(self, connection: AsyncConnection, table: Table) -> list[LeadingColumn]:
        """See `planner.leading_columns`."""
        return await planner.leading_columns(connection, table)

    async def estimate_rows(self, connection: AsyncConnection, table: Table, condition: ColumnElement[bool]) -> int:
        """See `planner.estimate_rows`."""
        return await planner.estimate_rows(connection, table, condition)

    async def surroundings(self, connection: AsyncConnection, table: Table, change: Change) -> Surroundings:
        """See `surroundings.read_surroundings`."""
        return await surroundings.read_surroundings(connection, table, change)

    async def move_rows(
        self,
        connection: AsyncConnection,
        table: Table,
        archive: Table,
        columns: Sequence[str],
        condition: ColumnElement[bool],
    ) -> tuple[int, int]:
        """See `removal.move_rows`."""
        return await removal.move_rows(connection, table, archive, columns, condition)

    async def take_rows(
        self,
        connection: AsyncConnection,
        table: Table,
        selected: Sequence[ColumnElement[object]],
        condition: ColumnElement[bool],
        order: Sequence[ColumnElement[object]],
    ) -> Sequence[Sequence[object]]:
        """See `removal.take_rows`."""
        return await removal.take_rows(connection, table, selected, condition, order)

    def advice_after_delete(self, table: Table) -> str:
        """See `removal.advice`."""
        return removal.advice(table)
