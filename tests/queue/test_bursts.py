"""When a burst of our worker is over, beyond what arq's own tests say of it."""

import asyncio
from typing import Any

from arq import create_pool, func
from arq.connections import RedisSettings
from arq.jobs import JobStatus

from worker.queue.queue_worker import QueueWorker


async def known(ctx: dict[Any, Any]) -> None:
    """Do nothing."""


async def test_a_burst_waits_for_a_deferred_job_though_an_unknown_one_was_aborted(redis_url: str) -> None:
    """A job that was put aside and then aborted is not counted as one that the burst may leave in the queue."""
    pool = await create_pool(RedisSettings.from_dsn(redis_url))
    unknown = await pool.enqueue_job("unknown")
    later = await pool.enqueue_job("known", _defer_by=1)
    assert unknown is not None
    assert later is not None
    worker = QueueWorker(
        [func(known, name="known")], redis_pool=pool, burst=True, allow_abort_jobs=True, handle_signals=False
    )
    working = asyncio.create_task(worker.main())
    while await unknown.status() is not JobStatus.deferred:
        await asyncio.sleep(0.01)
    assert await unknown.abort(timeout=5)
    await working
    assert await later.status() is JobStatus.complete
    await worker.close()


async def test_a_burst_waits_for_a_deferred_job_though_another_worker_took_what_it_put_aside(redis_url: str) -> None:
    """A job that was put aside and has left the queue since is not counted as one that the burst may leave there."""
    pool = await create_pool(RedisSettings.from_dsn(redis_url))
    unknown = await pool.enqueue_job("unknown")
    later = await pool.enqueue_job("known", _defer_by=1)
    assert unknown is not None
    assert later is not None
    worker = QueueWorker([func(known, name="known")], redis_pool=pool, burst=True, handle_signals=False)
    working = asyncio.create_task(worker.main())
    while await unknown.status() is not JobStatus.deferred:
        await asyncio.sleep(0.01)
    await pool.zrem("arq:queue", unknown.job_id)
    await working
    assert await later.status() is JobStatus.complete
    await worker.close()
