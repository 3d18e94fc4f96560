"""What Redis holds of jobs, by arq's keys, as a plain client sees it."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from arq.constants import in_progress_key_prefix, retry_key_prefix
from arq.jobs import Job, JobResult

QUEUE = "arq:queue"
ID = "one"
"""The id of the job that a test is about."""


@asynccontextmanager
async def plain_client(redis_url: str) -> AsyncIterator[ArqRedis]:
    """A client of arq's own, unconfigured."""
    pool = await create_pool(RedisSettings.from_dsn(redis_url))
    try:
        yield pool
    finally:
        await pool.aclose(close_connection_pool=True)


def now_ms() -> int:
    """Unix time in ms."""
    return time.time_ns() // 1_000_000


def ended(client: ArqRedis, job_id: str = ID) -> Callable[[], Awaitable[JobResult | None]]:
    """Asks whether a job has a result."""
    return Job(job_id, client).result_info


async def result_of(client: ArqRedis, job_id: str = ID) -> JobResult:
    """The result of a job that has one."""
    found = await ended(client, job_id)()
    assert found is not None, f"job {job_id} has no result"
    return found


async def tries(client: ArqRedis, job_id: str = ID) -> int:
    """How many tries arq's counter says that a job had."""
    return int(await client.get(retry_key_prefix + job_id) or 0)


async def is_empty(client: ArqRedis) -> bool:
    """Whether no job is queued or running."""
    return not await client.zcard(QUEUE)


async def is_unclaimed(client: ArqRedis, job_id: str = ID) -> bool:
    """Whether no worker holds a job."""
    return not await client.exists(in_progress_key_prefix + job_id)


async def is_queued(client: ArqRedis, job_id: str = ID) -> bool:
    """Whether a job is in the queue, running or not."""
    return await client.zscore(QUEUE, job_id) is not None


async def execute(client: ArqRedis, command: str) -> Any:
    """Send a command as one would type it."""
    return await client.execute_command(*command.split())  # type: ignore[no-untyped-call]  # redis-py's has no types


async def cut_connections(client: ArqRedis, times: int = 100) -> None:
    """Cut everybody else's connections again and again: some while they wait for an answer."""
    for _ in range(times):
        await execute(client, "CLIENT KILL TYPE normal SKIPME yes")
        await execute(client, "CLIENT KILL TYPE pubsub SKIPME yes")
