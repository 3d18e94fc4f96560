"""A table of events and one to keep them, for the tests of deletes: the models, the rows, and runs over them."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from sqlalchemy import JSON, BigInteger, Column, DateTime, MetaData, Numeric, String, Table, event, text

from tests.conftest import MakeRunner
from worker import RegisteredTable, Tables
from worker.core.outcomes import Failed, Outcome, Succeeded
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database
from worker.database.records import RunRecord
from worker.run.runner import Runner

METADATA: Final = MetaData()


def _columns() -> list[Column[object]]:
    return [
        Column("id", BigInteger, primary_key=True),
        Column("kind", String),
        Column("created_at", DateTime(timezone=True)),
        Column("amount", Numeric(12, 2)),
        Column("data", JSON),
    ]


EVENT: Final = Table("event", METADATA, *_columns())
KEPT: Final = Table("kept_event", METADATA, *_columns())

COLUMNS: Final = "id bigint PRIMARY KEY, kind text, created_at timestamptz, amount numeric(12,2), data jsonb"


async def execute(database: Database, *statements: str) -> None:
    """Run SQL statements in one transaction."""
    async with database.engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def rows_of(database: Database, query: str) -> list[tuple[object, ...]]:
    """The rows of a query."""
    async with database.engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(query))]


async def make_events(database: Database, count: int = 100) -> None:
    """Create both tables; an event is a day older than the one before it, and every third is of the kind `old`."""
    await execute(
        database,
        f"CREATE TABLE event ({COLUMNS})",
        f"CREATE TABLE kept_event ({COLUMNS})",
        "INSERT INTO event SELECT n, CASE WHEN n % 3 = 0 THEN 'old' ELSE 'new' END, now() - n * interval '1 day', "
        f"n / 8.0, jsonb_build_object('n', n, 'nested', jsonb_build_array(n, NULL)) FROM generate_series(1, {count}) n",
        "ANALYZE event",
    )


def delete_runner(
    make_runner: MakeRunner,
    *more: Table,
    changed: Settings | None = None,
    allow: Mapping[str, tuple[str, ...]] | None = None,
) -> Runner:
    """A runner that knows the tables of events, and more."""
    runner = make_runner(changed=changed)
    known = {table.fullname: RegisteredTable(table.fullname, table, None) for table in (EVENT, KEPT, *more)}
    object.__setattr__(runner, "tables", Tables(known, allow or {}))
    return runner


def delivery(*, all_rows: bool = False, **params: object) -> Delivery:
    """A delivery of a delete of events."""
    options: dict[str, object] = {"all": True} if all_rows else {}
    return Delivery("d", "chunked_delete", {"table": "event", **params}, options, "arq:queue", 1)


async def delete(runner: Runner, *, all_rows: bool = False, **params: object) -> Outcome:
    """One attempt of a delete of events."""
    return await runner.run(delivery(all_rows=all_rows, **params))


def result_of(outcome: Outcome) -> object:
    """What a run returned; it must have succeeded."""
    assert isinstance(outcome, Succeeded), outcome
    return outcome.result


def error_of(outcome: Outcome) -> str:
    """What a run failed with, type and message."""
    assert isinstance(outcome, Failed), outcome
    return f"{outcome.error.type}: {outcome.error.message}"


async def record_of(runner: Runner) -> RunRecord:
    """The run's record."""
    return await runner.ledger.read("d")


def one_chunk_of(runner: Runner) -> Runner:
    """A runner that stops after its first chunk."""
    object.__setattr__(runner, "emit", lambda event: runner.stop.set() if "Chunk" in type(event).__name__ else None)
    return runner


@asynccontextmanager
async def before_statements(runner: Runner, tell: Callable[[str, Sequence[object]], None]) -> AsyncIterator[None]:
    """Have each statement of a runner, with its values, told before it is sent."""

    def hook(_: object, __: object, statement: str, values: Sequence[object], *___: object) -> None:
        tell(statement, values)

    engine = runner.ledger.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", hook)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", hook)
