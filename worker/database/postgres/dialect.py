"""PostgreSQL's answers to what the database layer asks, gathered from the modules of this package."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, FromClause, Select, Table, Text, cast, text
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
from worker.database.postgres import (
    aside,
    book_statements,
    books_guard,
    catalogue,
    column_types,
    enqueue,
    fencing,
    limits,
    moves_guard,
    planner,
    pressure,
    removal,
    snapshot,
    surroundings,
)
from worker.database.postgres.errors import POSTGRES_ERRORS
from worker.database.postgres.exact_types import as_stored
from worker.database.postgres.merge import PostgresMerge
from worker.database.postgres.row_update import PostgresRowUpdate, PostgresWhereUpdate
from worker.database.postgres.sent_rows import differs
from worker.database.postgres.sent_values import column_encoder

# imported for what they register
_ = (column_types, moves_guard)

CONNECT_TIMEOUT_S = 10
SILENCE_S = 10
"""How long after the statement timeout, in seconds, a server that says nothing is given up."""


class Postgres:
    """PostgreSQL 15 and newer through asyncpg."""

    @property
    def errors(self) -> ErrorTable:
        """What SQLSTATEs and asyncpg's exceptions call for."""
        return POSTGRES_ERRORS

    def connection_options(self, settings: Settings, worker: str) -> dict[str, object]:
        """Driver options: an application name, and no named statements through a PgBouncer.

        Its clients are pooled like any others: an idle one holds none of its server connections.
        """
        server_settings = {"application_name": f"heavylift:{worker}"[:63]}
        arguments: dict[str, object] = {
            "connection_class": limits.LimitedConnection,
            "server_settings": server_settings,
            "timeout": CONNECT_TIMEOUT_S,
            # the server's own limit ends a slow statement first; this one is for a peer that vanished without a word
            "command_timeout": settings.statement_timeout_ms / 1000 + SILENCE_S,
        }
        if settings.pgbouncer:
            # With both caches off a statement has no name and is parsed in the same message that runs it, on whichever
            # server connection its transaction has. Names that are merely unique would pile up on all of them.
            arguments["statement_cache_size"] = 0
            arguments["prepared_statement_cache_size"] = 0
            # As the server spells it: asyncpg's own spelling differs, and PgBouncer would begin each transaction with
            # a SET that makes no difference.
            server_settings["client_encoding"] = "UTF8"
        return {"connect_args": arguments}

    def watch_engine(self, engine: AsyncEngine) -> None:
        """Nothing: limits go with each transaction's first statement."""

    def is_open(self, connection: ManagesConnection) -> bool:
        """What asyncpg knows: it hears of a connection's end while that is idle, too."""
        return not limits.driver_of(connection).is_closed()

    def set_limits(self, connection: Connection, settings: Settings, *, durable: bool = True) -> None:
        """See `limits.set_limits`."""
        limits.set_limits(connection, settings, idle_ms=settings.idle_timeout_ms, durable=durable)

    def forget_limits(self, connection: ManagesConnection) -> None:
        """So that they are not the next transaction's."""
        limits.driver_of(connection).limits = ""

    @property
    def snapshot_options(self) -> dict[str, object]:
        """REPEATABLE READ, READ ONLY."""
        return snapshot.OPTIONS

    def set_snapshot_limits(self, connection: Connection, settings: Settings) -> None:
        """The same for each fetch; between two of them it may be idle for longer."""
        limits.set_limits(connection, settings, idle_ms=settings.snapshot_idle_ms)

    async def avoid_long_sort(self, connection: AsyncConnection, statement: "Select[*tuple[Any, ...]]") -> None:
        """See `snapshot.avoid_long_sort`."""
        await snapshot.avoid_long_sort(connection, statement)

    @property
    def read_only(self) -> Mapping[str, object]:
        """BEGIN READ ONLY."""
        return {"postgresql_readonly": True}

    async def lock_migrations(self, connection: AsyncConnection) -> None:
        """An advisory lock of the transaction: it ends with it, whatever happens to the client."""
        await connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('heavylift migrations'))"))

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
        """Deferred constraints, and triggers that are constraints, as the transaction stands."""
        await connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))

    async def read_pressure(
        self, connection: AsyncConnection, indicators: Sequence[Indicator]
    ) -> list[Measure | Unread]:
        """See `pressure.read_pressure`."""
        return await pressure.read_pressure(connection, indicators)

    async def table_facts(self, connection: AsyncConnection, table: Table) -> TableFacts:
        """The table as pg_catalog has it."""
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
    ) -> PostgresMerge:
        """An upsert by INSERT ... ON CONFLICT."""
        return PostgresMerge(table, facts, columns=columns, key=key, update=update)

    def row_update(
        self, table: Table, facts: TableFacts, *, columns: Sequence[str], key: Sequence[str]
    ) -> PostgresRowUpdate:
        """An update from arrays, under locks taken in key order by the same statement."""
        return PostgresRowUpdate(table, facts, columns=columns, key=key)

    def where_update(self, table: Table, facts: TableFacts, values: Mapping[str, object]) -> PostgresWhereUpdate:
        """An update under locks taken in key order by the same statement."""
        return PostgresWhereUpdate(table, facts, values)

    def books(self, table: Table, terms: BookTerms) -> book_statements.PostgresBooks:
        """The books by arrays and ON CONFLICT DO NOTHING."""
        return book_statements.PostgresBooks(table, terms)

    def account_text(self, key: ColumnElement[object]) -> ColumnElement[str]:
        """The text of a key, byte by byte: whatever its own collation, the books' is "C"."""
        return cast(key, Text).collate("C")

    def request_hash(self, transfers: FromClause) -> ColumnElement[str]:
        """See `book_statements.request_hash`."""
        return book_statements.request_hash(transfers)

    async def missing_guards(self, connection: AsyncConnection) -> list[str]:
        """See `books_guard.missing_guards`."""
        return await books_guard.missing_guards(connection)

    async def leading_columns(self, connection: AsyncConnection, table: Table) -> list[LeadingColumn]:
        """What pg_index and pg_stats say."""
        return await planner.leading_columns(connection, table)

    async def estimate_rows(self, connection: AsyncConnection, table: Table, condition: ColumnElement[bool]) -> int:
        """What EXPLAIN says."""
        return await planner.estimate_rows(connection, table, condition)

    async def surroundings(self, connection: AsyncConnection, table: Table, change: Change) -> Surroundings:
        """What pg_catalog says of a table's foreign keys, triggers, rules and privileges."""
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
        """Of what autovacuum will do in its own time."""
        return removal.advice(table)
