"""What is kept, and for how long: payloads until they are done, results as their function says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from arq import func
from arq.connections import ArqRedis
from arq.constants import job_key_prefix, result_key_prefix
from arq.worker import JobExecutionFailed, Retry, Worker

from tests.support.queue_keys import ID, ended, result_of
from tests.support.queue_workers import NOTHING, is_arqs, make_worker, running, until
from worker.core.settings import Settings
from worker.main import run_worker

# arq 0.28 closes its pool by a name that redis-py 5 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")


class Busy:
    """A worker of one job at a time, which is held up until it is told to leave."""

    def __init__(self, redis_url: str) -> None:
        self.started, self.leave = asyncio.Event(), asyncio.Event()
        self.worker: Worker = make_worker(redis_url, [func(self._hold, name="hold"), NOTHING], max_jobs=1)

    async def _hold(self, ctx: dict[str, Any]) -> None:
        del ctx
        self.started.set()
        await self.leave.wait()


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[None]:
    """A worker at work on this test's queue: on ours the whole of it, with its ledger."""
    if is_arqs():
        assert settings.redis_url is not None
        async with running(make_worker(settings.redis_url.get_secret_value(), [NOTHING])):
            yield
        return
    main = asyncio.create_task(run_worker(settings))
    try:
        yield
    finally:
        main.cancel()
        await asyncio.gather(main, return_exceptions=True)


async def test_a_backlog_outlives_arqs_default_expiry(client: ArqRedis, settings: Settings) -> None:
    """A job that nobody gave an expiry, and that waits, does not expire after arq's day."""
    await client.enqueue_job("scripted", _job_id=ID, _defer_by=3600)
    await client.enqueue_job("scripted", _job_id="short-lived", _defer_by=3600, _expires=7200)

    async def lasts() -> bool:
        return bool(await client.pttl(job_key_prefix + ID) == -1)

    async with served(settings):
        await until(lasts, "its payload will expire")
    assert await client.pttl(job_key_prefix + "short-lived") > 0


async def test_a_deliberate_expiry_is_honoured(client: ArqRedis, redis_url: str) -> None:
    """A job that nobody could start before the expiry that it was given is not started, and fails."""
    busy = Busy(redis_url)
    await client.enqueue_job("hold", _job_id="first")
    async with running(busy.worker) as work:
        await work.until(busy.started.is_set, "it was not started")
        await client.enqueue_job("nothing", _job_id=ID, _expires=0.3)

        async def is_expired() -> bool:
            return not await client.exists(job_key_prefix + ID)

        await work.until(is_expired, "its payload does not expire")
        busy.leave.set()
        await work.until(ended(client), "it has not failed")
    assert (await result_of(client)).result == JobExecutionFailed("job expired")


async def test_an_expiry_does_not_reach_a_job_that_was_started(client: ArqRedis, redis_url: str) -> None:
    """A job that was started before its expiry, and tried again after it, is tried again."""
    starts: list[str] = []

    async def second_time_lucky(ctx: dict[str, Any]) -> int:
        starts.append(ctx["job_id"])
        if len(starts) == 1:
            raise Retry(defer=0.6)
        return len(starts)

    await client.enqueue_job("second", _job_id=ID, _expires=0.4)
    async with running(make_worker(redis_url, [func(second_time_lucky, name="second")])) as work:
        await work.until(ended(client), "it has not ended")
    assert (await result_of(client)).result == 2


async def test_a_bare_retry_says_how_many_there_were(client: ArqRedis, redis_url: str) -> None:
    """As arq's, a job that asks for one retry too many, for no error, fails with their number."""

    async def insist(ctx: dict[str, Any]) -> None:
        del ctx
        raise Retry

    await client.enqueue_job("insist", _job_id=ID)
    async with running(make_worker(redis_url, [func(insist, name="insist", max_tries=2)])) as work:
        await work.until(ended(client), "it has not ended")
    assert (await result_of(client)).result == JobExecutionFailed("max 2 retries exceeded")


async def test_a_failure_before_the_start_is_kept_as_its_function_says(client: ArqRedis, redis_url: str) -> None:
    """A function's own `keep_result` holds for the failure of a job that never started, too."""
    kept = func(NOTHING.coroutine, name="nothing", keep_result=60)
    await client.enqueue_job("nothing", _job_id=ID, _job_try=6)
    async with running(make_worker(redis_url, [kept], keep_result=0)) as work:
        await work.until(ended(client), "its failure is not on record")
    assert 0 < await client.pttl(result_key_prefix + ID) <= 60_000
