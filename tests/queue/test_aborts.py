"""Requests to abort a job: kept as long as its job waits."""

import asyncio
import signal
from typing import Any

import pytest
from arq import func
from arq.connections import ArqRedis
from arq.constants import abort_jobs_ss, job_key_prefix
from arq.jobs import serialize_job

from tests.support.queue_keys import ID, QUEUE, ended, now_ms, result_of
from tests.support.queue_workers import NOTHING, make_worker, running
from worker.queue.in_flight import Hooks

# arq 0.28 closes its pool by a name that redis-py 5 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")


async def test_a_request_is_kept_while_its_job_waits(client: ArqRedis, redis_url: str) -> None:
    """A job that waits in a backlog for minutes after its abortion was asked for is aborted, not run."""
    leave = asyncio.Event()

    async def hold(ctx: dict[str, Any]) -> None:
        del ctx
        await leave.wait()

    jobs = [func(hold, name="hold"), NOTHING]
    await client.zadd(abort_jobs_ss, {ID: now_ms() - 120_000, "long-gone": now_ms() - 120_000})
    await client.enqueue_job("hold", _job_id="first")
    async with running(make_worker(redis_url, jobs, max_jobs=1, allow_abort_jobs=True)) as work:
        await client.set(job_key_prefix + ID, serialize_job("nothing", (), {}, None, now_ms() - 180_000))
        await client.zadd(QUEUE, {ID: now_ms()})

        async def is_swept() -> bool:
            return await client.zscore(abort_jobs_ss, "long-gone") is None

        await work.until(is_swept, "a request for no job is still there")
        leave.set()
        await work.until(ended(client), "it has not ended")
    assert isinstance((await result_of(client)).result, asyncio.CancelledError)


async def test_an_abortion_met_by_the_workers_end_is_the_next_ones(client: ArqRedis, redis_url: str) -> None:
    """A job that was asked to end by itself, and is interrupted first, waits for the next worker, which aborts it."""
    begun, asked = asyncio.Event(), asyncio.Event()

    async def hold(ctx: dict[str, Any]) -> None:
        del ctx
        begun.set()
        await asyncio.Event().wait()

    async def ask(run_id: str) -> None:
        assert run_id == ID
        asked.set()

    jobs = [func(hold, name="hold")]
    job = await client.enqueue_job("hold", _job_id=ID)
    assert job is not None
    first = make_worker(redis_url, jobs, allow_abort_jobs=True, hooks=Hooks(abort=ask))
    async with running(first) as work:
        await work.until(begun.is_set, "it does not begin")
        await client.zadd(abort_jobs_ss, {ID: now_ms()})
        await work.until(asked.is_set, "it was not asked to end")
        first.handle_sig(signal.SIGTERM)
        await asyncio.wait({work.main})
    assert await client.zscore(QUEUE, ID) is not None
    async with running(make_worker(redis_url, jobs, allow_abort_jobs=True)) as work:
        await work.until(ended(client), "it has not ended")
    assert isinstance((await result_of(client)).result, asyncio.CancelledError)
