"""MariaDB's and MySQL's answers to what the database layer asks, gathered from the modules of this package."""

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
from worker.database.mysql import (
    aside,
    book_statements,
    books_guard,
    catalogue,
    claiming,
    column_types,
    connections,
    enqueue,
    exact_text,
    fencing,
    key_list,
    limits,
    migration_lock,
    moves_guard,
    planner,
    pressure,
    removal,
    snapshot,
    surroundings,
)
from worker.database.mysql.errors import MYSQL_ERRORS
from worker.database.mysql.merge import MySqlMerge
from worker.database.mysql.row_update import MySqlRowUpdate, MySqlWhereUpdate
from worker.database.mysql.sent_rows import differs
from worker.database.mysql.sent_values import column_encoder
from worker.database.mysql.stored_forms import as_stored

# imported for what they register
_ = (column_types, key_list, moves_guard)


class MySql:
    """MariaDB 10.6 and newer, and MySQL 8, through aiomysql."""

    @property
    def errors(self) -> ErrorTable:
        """What error numbers and aiomysql's exceptions call for."""
        return MYSQL_ERRORS

    def connection_options(self, settings: Settings, worker: str) -> dict[str, object]:
        """See `connections.connection_options`."""
        return connections.connection_options(settings, worker)

    def watch_engine(self, engine: AsyncEngine) -> None:
        """See `connections.watch_engine`."""
        connections.watch_engine(engine)

    def is_open(self, connection: ManagesConnection) -> bool:
        """What aiomysql knows: whether it closed the connection, or read its end."""
        return connections.is_open(connection)

    def set_limits(self, connection: Connection, settings: Settings, *, durable: bool = True) -> None:
        """See `limits.set_limits`."""
        limits.set_limits(connection, settings, idle_ms=settings.idle_timeout_ms, durable=durable)

    def forget_limits(self, connection: ManagesConnection) -> None:
        """See `limits.forget_limits`."""
        limits.forget_limits(connection)

    @property
    def snapshot_options(self) -> dict[str, object]:
        """See `snapshot.OPTIONS`."""
        return snapshot.OPTIONS

    def set_snapshot_limits(self, connection: Connection, settings: Settings) -> None:
        """See `snapshot.set_snapshot_limits`."""
        snapshot.set_snapshot_limits(connection, settings)

    async def avoid_long_sort(self, connection: AsyncConnection, statement: "Select[*tuple[Any, ...]]") -> None:
        """See `snapshot.avoid_long_sort`."""
        await snapshot.avoid_long_sort(connection, statement)

    @property
    def read_only(self) -> Mapping[str, object]:
        """See `connections.READ_ONLY`."""
        return connections.READ_ONLY

    async def lock_migrations(self, connection: AsyncConnection) -> None:
        """See `migration_lock.lock_migrations`."""
        await migration_lock.lock_migrations(connection)

    async def enqueue(self, connection: AsyncConnection, deliveries: Sequence[Delivery], terms: Terms) -> set[str]:
        """Write down runs whose ids are new, one statement for all."""
        return await enqueue.enqueue(connection, deliveries, terms)

    def claim(self, connection: Connection, deliveries: Sequence[Delivery], worker: str) -> list[Claim]:
        """See `claiming.claim`."""
        return claiming.claim(connection, deliveries, worker)

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
        """Nothing: every constraint was checked with its row."""
        del connection

    async def read_pressure(
        self, connection: AsyncConnection, indicators: Sequence[Indicator]
    ) -> list[Measure | Unread]:
        """See `pressure.read_pressure`."""
        return await pressure.read_pressure(connection, indicators)

    async def table_facts(self, connection: AsyncConnection, table: Table) -> TableFacts:
        """The table as the information schema has it."""
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
        """See `stored_forms.as_stored`."""
        return as_stored(value, facts)

    def encoder(self, column: Column[object], facts: ColumnFacts, dialect: SqlDialect) -> Encoder:
        """See `sent_values.column_encoder`."""
        return column_encoder(column, facts, dialect)

    def merge(
        self, table: Table, facts: TableFacts, *, columns: Sequence[str], key: Sequence[str], update: Sequence[str]
    ) -> MySqlMerge:
        """See `merge.MySqlMerge`."""
        return MySqlMerge(table, facts, columns=columns, key=key, update=update)

    def row_update(
        self, table: Table, facts: TableFacts, *, columns: Sequence[str], key: Sequence[str]
    ) -> MySqlRowUpdate:
        """See `row_update.MySqlRowUpdate`."""
        return MySqlRowUpdate(table, facts, columns=columns, key=key)

    def where_update(self, table: Table, facts: TableFacts, values: Mapping[str, object]) -> MySqlWhereUpdate:
        """See `row_update.MySqlWhereUpdate`."""
        return MySqlWhereUpdate(table, facts, values)

    def books(self, table: Table, terms: BookTerms) -> book_statements.MySqlBooks:
        """See `book_statements.MySqlBooks`."""
        return book_statements.MySqlBooks(table, terms)

    def account_text(self, key: ColumnElement[object]) -> ColumnElement[str]:
        """See `exact_text.account_text`."""
        return exact_text.account_text(key)

    def request_hash(self, transfers: FromClause) -> ColumnElement[str]:
        """See `exact_text.request_hash`."""
        return exact_text.request_hash(transfers)

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
