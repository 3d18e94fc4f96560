"""`cleanup`: what the ledger forgets, and what it never does."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from arq.connections import ArqRedis
from sqlalchemy import func, insert, select

from tests.conftest import MakeRunner
from worker.core.outcomes import Failed, Interrupted, Outcome, Succeeded
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database
from worker.database.tables import ATTEMPTS, MOVES, PROGRESS, QUARANTINE, RUNS
from worker.queue.holdings import held_runs
from worker.queue.redis_settings import open_redis
from worker.run.runner import Runner

NOW = datetime.now(UTC)


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[ArqRedis]:
    """This test's Redis, empty."""
    pool = await open_redis(settings)
    yield pool
    await pool.aclose(close_connection_pool=True)


async def add_run(database: Database, run_id: str, days: float, status: str = "succeeded", refused: int = 0) -> None:
    """A run that was enqueued and ended so many days ago, with refused rows of the same age."""
    then = NOW - timedelta(days=days)
    values = {"id": run_id, "job": "scripted", "queue": "arq:queue", "params": {}, "options": {}, "status": status}
    ended = then if status in {"succeeded", "failed", "cancelled"} else None
    row = {"run_id": run_id, "chunk": 1, "position": 1, "reason": "odd", "payload": {}, "created_at": then}
    async with database.engine.begin() as connection:
        await connection.execute(insert(RUNS).values(**values, enqueued_ms=1, enqueued_at=then, finished_at=ended))
        await connection.execute(insert(PROGRESS).values(run_id=run_id))
        attempt = {"run_id": run_id, "fence": 1, "worker": "w", "started_at": then, "ended_at": then, "first_chunk": 0}
        await connection.execute(insert(ATTEMPTS).values(**attempt, outcome=status))
        for _ in range(refused):
            await connection.execute(insert(QUARANTINE).values(**row))


def with_queue(runner: Runner, redis: ArqRedis, **changed: object) -> Runner:
    """A runner that can ask the queue."""
    settings = runner.settings.model_copy(update=changed)
    return replace(runner, settings=settings, held_runs=partial(held_runs, redis))


async def clean(runner: Runner, run_id: str = "cleaning") -> Outcome:
    """Run the job."""
    return await runner.run(Delivery(run_id, "cleanup", {}, {}, "arq:queue", 1))


async def left(database: Database) -> set[str]:
    """The runs that the ledger knows, but the one that cleans."""
    async with database.engine.connect() as connection:
        return set((await connection.execute(select(RUNS.c.id).where(RUNS.c.job == "scripted"))).scalars())


async def test_each_thing_has_its_period(make_runner: MakeRunner, database: Database, redis: ArqRedis) -> None:
    """Finished runs go after 30 days, refused rows after 90, and a run stays while it has any."""
    await add_run(database, "old", 31)
    await add_run(database, "young", 29)
    await add_run(database, "waiting", 400, status="waiting")
    await add_run(database, "kept for its rows", 31, refused=2)
    await add_run(database, "older than its rows may be", 91, status="failed", refused=3)
    outcome = await clean(with_queue(make_runner(), redis))
    assert outcome == Succeeded({"quarantine": 3, "runs": 2})
    assert await left(database) == {"young", "waiting", "kept for its rows"}
    async with database.engine.connect() as connection:
        attempts = await connection.execute(select(func.count()).where(ATTEMPTS.c.run_id == "old"))
        assert attempts.scalar() == 0


@pytest.mark.parametrize("key", ["arq:job:", "arq:in-progress:", "arq:result:", None])
async def test_what_redis_knows_stays(
    make_runner: MakeRunner, database: Database, redis: ArqRedis, key: str | None
) -> None:
    """A run whose delivery, lease, result or queue entry is in Redis is never pruned, however old it is."""
    await add_run(database, "known", 400)
    await add_run(database, "unknown", 400)
    if key is None:
        await redis.zadd("arq:queue", {"known": 1})
    else:
        await redis.set(f"{key}known", b"x")
    assert await clean(with_queue(make_runner(), redis)) == Succeeded({"quarantine": 0, "runs": 1})
    assert await left(database) == {"known"}


async def test_audit_trails_stay(make_runner: MakeRunner, database: Database, redis: ArqRedis) -> None:
    """What a pruned run moved can still be read."""
    await add_run(database, "mover", 400)
    move = {"run_id": "mover", "table_name": "hero", "row_key": {"id": 1}, "column_name": "team", "reason": "r"}
    async with database.engine.begin() as connection:
        await connection.execute(insert(MOVES).values(**move, actor="me", moved_at=NOW - timedelta(days=400)))
    await clean(with_queue(make_runner(), redis))
    assert await left(database) == set()
    async with database.engine.connect() as connection:
        assert list((await connection.execute(select(MOVES.c.run_id))).scalars()) == ["mover"]


async def test_it_goes_on_where_it_was_interrupted(
    make_runner: MakeRunner, database: Database, redis: ArqRedis
) -> None:
    """Stopped after each page, it forgets everything in the end and counts it once."""
    for number in range(7):
        await add_run(database, f"r{number}", 100 + number, refused=2)
    small = {"chunk_start_rows": 3, "chunk_min_rows": 3, "chunk_max_rows": 3}
    outcomes: list[Outcome] = []
    while not outcomes or outcomes[-1] == Interrupted():
        runner = with_queue(make_runner(), redis, **small)
        object.__setattr__(
            runner, "emit", lambda event, stop=runner.stop: stop.set() if "Chunk" in type(event).__name__ else None
        )
        outcomes.append(await clean(runner))
    assert len(outcomes) > 7
    assert outcomes[-1] == Succeeded({"quarantine": 14, "runs": 7})


async def test_without_a_queue_no_run_is_pruned(make_runner: MakeRunner, database: Database) -> None:
    """Where nobody can tell whether a run may be delivered again, it stays."""
    await add_run(database, "old", 31)
    runner = replace(make_runner(), settings=make_runner().settings.model_copy(update={"max_attempts": 1}))
    outcome = await clean(runner)
    assert isinstance(outcome, Failed)
    assert "heavylift enqueue cleanup" in outcome.error.message
    assert await left(database) == {"old"}
