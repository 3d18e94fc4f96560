"""A ledger and a Redis side by side: runs put into one, and what the other has of them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from arq.connections import ArqRedis
from sqlalchemy import func, insert, select, update

from worker.core.clock import to_ms
from worker.core.settings import Settings
from worker.database.engine import Database
from worker.database.tables import RUNS
from worker.queue.redis_settings import open_redis
from worker.queue.wire import decode

QUEUE = "arq:queue"
NOW = datetime.now(UTC).replace(microsecond=0)
ENQUEUED = NOW - timedelta(minutes=10)


class SetClock:
    """A clock that a test sets, and a stopwatch that shows what the test says, once."""

    def __init__(self) -> None:
        self.moment = datetime.now(UTC)
        self.took_ms = 0.0

    def now(self) -> datetime:
        """What the test says."""
        return self.moment

    def monotonic_ms(self) -> float:
        """`took_ms`, which is zero again after that."""
        self.took_ms, before = 0.0, self.took_ms
        return before

    def rand(self) -> float:
        """Not random."""
        return 0.5

    def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        self.moment += timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class Stores:
    """Both stores of one test."""

    database: Database
    redis: ArqRedis

    async def write(self, run_id: str, status: str = "queued", **values: object) -> None:
        """Put a run into the ledger alone."""
        row: dict[str, object] = {
            "id": run_id,
            "job": "scripted",
            "queue": QUEUE,
            "params": {"value": 1},
            "options": {},
        }
        row |= {"status": status, "enqueued_ms": to_ms(ENQUEUED), "enqueued_at": ENQUEUED, "enqueued_by": "me"}
        async with self.database.engine.begin() as connection:
            await connection.execute(insert(RUNS).values(row | values))

    async def change(self, run_id: str, **values: object) -> None:
        """Change a run in the ledger alone."""
        async with self.database.engine.begin() as connection:
            await connection.execute(update(RUNS).where(RUNS.c.id == run_id).values(**values))

    async def status(self, run_id: str) -> str:
        """A run's status in the ledger."""
        async with self.database.engine.connect() as connection:
            return str((await connection.execute(select(RUNS.c.status).where(RUNS.c.id == run_id))).scalar_one())

    async def count(self) -> int:
        """How many runs the ledger has."""
        async with self.database.engine.connect() as connection:
            return int((await connection.execute(select(func.count()).select_from(RUNS))).scalar_one())

    async def payloads(self) -> dict[str, dict[str, object]]:
        """The jobs in Redis, decoded, by run id."""
        return {run_id: decode(payload) for run_id, payload in (await self.raw_payloads()).items()}

    async def raw_payloads(self) -> dict[str, bytes]:
        """The jobs in Redis, by run id."""
        keys = [key async for key in self.redis.scan_iter(match="arq:job:*", count=1000)]
        return {key.decode().removeprefix("arq:job:"): await self.redis.get(key) for key in keys}

    async def scores(self) -> Mapping[str, int]:
        """The queue in Redis: due times in ms, by run id."""
        found = await self.redis.zrange(QUEUE, 0, -1, withscores=True)
        return {run_id.decode(): round(score) for run_id, score in found}


@asynccontextmanager
async def open_stores(settings: Settings, database: Database) -> AsyncIterator[Stores]:
    """Both stores of a test, Redis empty."""
    redis = await open_redis(settings)
    try:
        yield Stores(database, redis)
    finally:
        await redis.aclose(close_connection_pool=True)
