"""The loop when it is disturbed: cancelled in mid-step, without Redis, at its end."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from arq import func
from arq.connections import ArqRedis, RedisSettings, create_pool

from worker.queue.queue_worker import QueueWorker


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[ArqRedis]:
    """A pool on an empty Redis."""
    pool = await create_pool(RedisSettings.from_dsn(redis_url))
    yield pool
    await pool.aclose(close_connection_pool=True)


class Jobs:
    """Functions for a worker, and what became of them."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.go_on = asyncio.Event()
        self.ended: list[str] = []

    async def held(self, ctx: dict[Any, Any]) -> str:
        """Wait until the test lets it go on."""
        self.begun.put_nowait(ctx["job_id"])
        await self.go_on.wait()
        self.ended.append(ctx["job_id"])
        return "held"

    def worker(self, redis_url: str, **more: Any) -> QueueWorker:
        """A worker that runs them."""
        settings = RedisSettings.from_dsn(redis_url)
        return QueueWorker(
            functions=[func(self.held, name="held")], redis_settings=settings, handle_signals=False, **more
        )


@pytest.fixture
def jobs() -> Jobs:
    """Jobs of this test."""
    return Jobs()


async def stop(worker: QueueWorker, working: asyncio.Task[None]) -> None:
    """End a worker as a signal does."""
    working.cancel()
    await asyncio.wait({working})
    await worker.close()


async def test_cancelled_in_mid_step_it_puts_back_what_it_claimed(redis: ArqRedis, redis_url: str, jobs: Jobs) -> None:
    """A claim whose reply comes after the cancellation is released at once, and costs no try."""
    worker = jobs.worker(redis_url)
    working = asyncio.create_task(worker.main())
    await redis.enqueue_job("held", _job_id="first")
    await jobs.begun.get()
    await redis.enqueue_job("held", _job_id="second", _defer_by=0.05)
    await redis.execute_command("CLIENT", "PAUSE", 300, "ALL")  # type: ignore[no-untyped-call] # redis-py's own
    await asyncio.sleep(0.15)
    await stop(worker, working)
    assert await redis.keys("arq:in-progress:*") == []
    assert await redis.keys("arq:retry:*") == []
    assert sorted(await redis.zrange("arq:queue", 0, -1)) == [b"first", b"second"]


async def test_what_ended_while_redis_was_away_is_told_when_it_is_back(
    redis: ArqRedis, redis_url: str, jobs: Jobs
) -> None:
    """A job that ends while no connection can be made is finished once, and its result is there."""
    worker = jobs.worker(redis_url, lease_s=1)
    working = asyncio.create_task(worker.main())
    job = await redis.enqueue_job("held")
    assert job is not None
    await jobs.begun.get()
    await redis.config_set("maxclients", 1)
    await redis.client_kill_filter(_type="normal", skipme=True)
    await redis.client_kill_filter(_type="pubsub", skipme=True)
    try:
        jobs.go_on.set()
        while not jobs.ended:
            await asyncio.sleep(0)
        await asyncio.sleep(0.5)
    finally:
        await redis.config_set("maxclients", 10_000)
    assert await job.result(timeout=10, poll_delay=0.02) == "held"
    assert jobs.ended == [job.job_id]
    await stop(worker, working)


async def test_a_second_worker_takes_over_what_the_first_put_back(redis: ArqRedis, redis_url: str, jobs: Jobs) -> None:
    """A job interrupted by one worker's end begins at once on another that was idle, however seldom that one looks."""
    first, second = jobs.worker(redis_url), jobs.worker(redis_url, poll_delay=60)
    working = asyncio.create_task(first.main())
    await redis.enqueue_job("held", _job_id="job")
    await jobs.begun.get()
    waiting = asyncio.create_task(second.main())
    while await redis.client_list(_type="pubsub") and len(await redis.client_list(_type="pubsub")) < 2:
        await asyncio.sleep(0.01)
    await stop(first, working)
    assert await asyncio.wait_for(jobs.begun.get(), 10) == "job"
    jobs.go_on.set()
    await stop(second, waiting)


async def test_a_cancellation_that_a_library_has_swallowed_is_heeded(redis_url: str, jobs: Jobs) -> None:
    """A worker told to end while a library that it calls does not let the cancellation through ends all the same."""
    starting, startled = asyncio.Event(), asyncio.Event()

    async def swallow(ctx: dict[Any, Any]) -> None:
        del ctx
        starting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            startled.set()

    worker = jobs.worker(redis_url, on_startup=swallow)
    working = asyncio.create_task(worker.main())
    await starting.wait()
    working.cancel()
    await asyncio.wait({working}, timeout=10)
    assert startled.is_set()
    assert working.cancelled(), f"it goes on: {working}"
    await worker.close()


async def test_an_end_without_redis_waits_for_what_is_under_way(
    redis: ArqRedis, redis_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that ends while Redis is away gives up telling it, and still lets its jobs write down how they end."""
    monkeypatch.setattr("worker.queue.loop.LAST_WORDS_S", 0.1)
    begun: asyncio.Queue[str] = asyncio.Queue()
    written = []

    async def slow_to_end(ctx: dict[Any, Any], until_told: str) -> None:
        begun.put_nowait(ctx["job_id"])
        try:
            await asyncio.Event().wait()
        finally:
            while until_told not in caplog.text:
                await asyncio.sleep(0.01)
            written.append(ctx["job_id"])

    worker = QueueWorker(
        functions=[func(slow_to_end, name="slow")],
        redis_settings=RedisSettings.from_dsn(redis_url),
        handle_signals=False,
        end_s=10,
    )
    working = asyncio.create_task(worker.main())
    for name, until_told in (("first", ""), ("last", "it was not told")):
        await redis.enqueue_job("slow", until_told, _job_id=name)
        await begun.get()
    await redis.config_set("maxclients", 1)
    try:
        await redis.client_kill_filter(_type="normal", skipme=True)
        await redis.client_kill_filter(_type="pubsub", skipme=True)
        await stop(worker, working)
    finally:
        await redis.config_set("maxclients", 10_000)
    assert written == ["first", "last"]
