"""What the tests of `batch_update` share: deliveries, counts that must add up, and statements as they are sent."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from sqlalchemy import event, insert, text
from sqlalchemy.engine import Connection

from tests.support.shop_models import Item
from worker.core.outcomes import Failed, Outcome, Succeeded
from worker.database.claims import Delivery
from worker.database.engine import Database

ADVANCE = "UPDATE heavylift_progress"
ITEM = Item.__table__  # type: ignore[attr-defined]  # SQLModel sets it


def delivery(params: Mapping[str, object], run_id: str = "u", options: Mapping[str, object] | None = None) -> Delivery:
    """A delivery of the job, on the table of items unless another is named."""
    return Delivery(run_id, "batch_update", {"table": "item", **params}, dict(options or {}), "arq:queue", 1)


def update(run_id: str = "u", options: Mapping[str, object] | None = None, **params: object) -> Delivery:
    """A delivery of the job with parameters that are known where it is written."""
    return delivery(params, run_id, options)


def counts(outcome: Outcome) -> dict[str, int]:
    """The counts of a run that succeeded, without the zeros; they must add up."""
    assert isinstance(outcome, Succeeded), outcome
    assert isinstance(outcome.result, dict)
    assert list(outcome.result) == ["read", "updated", "unchanged", "missing", "duplicates", "quarantined"]
    read, *parts = outcome.result.values()
    assert read == sum(parts)
    assert min(parts) >= 0
    return {name: count for name, count in outcome.result.items() if count}


def message(outcome: Outcome) -> str:
    """What a run failed with: one line."""
    assert isinstance(outcome, Failed), outcome
    assert "\n" not in outcome.error.message
    return outcome.error.message


async def put(database: Database, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert items, given by what matters; the rest is the same for all."""
    filled = {"name": "x", "quantity": 1, "price": 1, "note": None, "shelf": None, "slot": None, "counted_at": None}
    async with database.engine.begin() as connection:
        await connection.execute(insert(ITEM), [{**filled, **row} for row in rows])


async def execute(database: Database, *statements: str) -> None:
    """Run statements and commit."""
    async with database.engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def rows(database: Database, query: str) -> list[tuple[object, ...]]:
    """What a query returns."""
    async with database.engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(query))]


async def until_somebody_waits(database: Database) -> None:
    """Return as soon as a session of this database waits for a lock."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while not await rows(database, waiting):
        pass


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """The first words of each statement that the engine sends, in order, and where a transaction begins; no COMMIT."""
    seen: list[str] = []

    def see(_: Connection, __: object, statement: str, *___: object) -> None:
        seen.append(" ".join(statement.split()[:2]))

    def see_begin(_: Connection) -> None:
        seen.append("BEGIN")

    event.listen(database.engine.sync_engine, "before_cursor_execute", see)
    event.listen(database.engine.sync_engine, "begin", see_begin)
    try:
        yield seen
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", see)
        event.remove(database.engine.sync_engine, "begin", see_begin)


def last_chunk(seen: Sequence[str]) -> list[str]:
    """The kinds of the statements of the last chunk, from its BEGIN to its cursor."""
    end = len(seen) - seen[::-1].index(ADVANCE)
    begin = max(at for at, statement in enumerate(seen[:end]) if statement == "BEGIN")
    return [statement.split()[0] for statement in seen[begin:end]]
