"""A table of events and one to keep them, for the tests of deletes: the models, the rows, and runs over them."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from sqlalchemy import BigInteger, Column, MetaData, Numeric, String, Table, event
from sqlalchemy.schema import SchemaItem

from tests.conftest import MakeRunner
from tests.support.column_types import DOCUMENT, MOMENT
from tests.support.own_session import analyze, put
from worker import RegisteredTable, Tables
from worker.core.outcomes import Failed, Outcome, Succeeded
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database
from worker.database.records import RunRecord
from worker.run.runner import Runner

CENT: Final = Decimal("0.01")


def event_table(name: str, *more: SchemaItem, changed: Mapping[str, Column[object] | None] | None = None) -> Table:
    """A table with an event's columns, and more; some of them may be others, or be left out."""
    columns: dict[str, Column[object] | None] = {
        "id": Column("id", BigInteger, primary_key=True, autoincrement=False),
        "kind": Column("kind", String(40)),
        "created_at": Column("created_at", MOMENT),
        "amount": Column("amount", Numeric(12, 2)),
        "data": Column("data", DOCUMENT),
        **(changed or {}),
    }
    return Table(name, MetaData(), *(column for column in columns.values() if column is not None), *more)


EVENT: Final = event_table("event")
KEPT: Final = event_table("kept_event")


def events(count: int = 100) -> list[dict[str, object]]:
    """Rows; an event is a day older than the one before it, and every third is of the kind `old`."""
    now = datetime.now(UTC)
    return [
        {
            "id": n,
            "kind": "new" if n % 3 else "old",
            "created_at": now - timedelta(days=n),
            "amount": (Decimal(n) / 8).quantize(CENT),
            "data": {"n": n, "nested": [n, None]},
        }
        for n in range(1, count + 1)
    ]


async def make_events(database: Database, count: int = 100, event: Table = EVENT, kept: Table = KEPT) -> None:
    """Create both tables and the events."""
    async with database.engine.begin() as connection:
        await connection.run_sync(event.create)
        await connection.run_sync(kept.create)
    await put(database, event, events(count))
    await analyze(database, "event")


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
