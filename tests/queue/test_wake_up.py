"""A worker that looks for work every half minute starts it at once all the same, lost connections or not."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from arq import func
from arq.connections import ArqRedis
from arq.constants import health_check_key_suffix

from tests.support.queue_keys import ID, QUEUE, cut_connections, ended, is_empty, now_ms
from tests.support.queue_workers import NOTHING, Running, make_worker, running

SELDOM_S = 30.0

# arq 0.28 closes its pool by a name that redis-py 5 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")


async def until_idle(work: Running, client: ArqRedis) -> None:
    """Wait until a worker has looked for work, and found none."""
    await work.until(lambda: client.exists(QUEUE + health_check_key_suffix), "it does not look for work")


async def test_an_idle_worker_is_woken_by_a_plain_client(client: ArqRedis, redis_url: str) -> None:
    """A job that an unconfigured client enqueues does not wait for the next poll."""
    async with running(make_worker(redis_url, [NOTHING], poll_delay=SELDOM_S)) as work:
        await until_idle(work, client)
        await client.enqueue_job("nothing", _job_id=ID)
        await work.until(ended(client), "it waits for the next poll")


async def test_a_deferred_job_starts_when_it_is_due(client: ArqRedis, redis_url: str) -> None:
    """A deferred job does not wait for the poll after its moment, and does not start before it."""
    async with running(make_worker(redis_url, [NOTHING], poll_delay=SELDOM_S)) as work:
        await until_idle(work, client)
        due_ms = now_ms() + 500
        await client.enqueue_job("nothing", _job_id=ID, _defer_by=0.5)
        await work.until(ended(client), "it waits for the next poll")
        assert now_ms() >= due_ms


async def test_a_worker_is_woken_after_its_connections_were_cut(client: ArqRedis, redis_url: str) -> None:
    """Whatever tells a worker of new jobs is there again after a lost connection."""
    async with running(make_worker(redis_url, [NOTHING], poll_delay=SELDOM_S)) as work:
        await until_idle(work, client)
        await cut_connections(client)
        for number in range(3):
            await client.enqueue_job("nothing", _job_id=str(number))
            await work.until(ended(client, str(number)), "it waits for the next poll")


async def test_connections_cut_all_the_time_lose_and_double_nothing(client: ArqRedis, redis_url: str) -> None:
    """Jobs that are claimed and ended while connections are cut are each started once, and all end."""
    starts: Counter[str] = Counter()

    async def note(ctx: dict[str, Any]) -> None:
        starts[ctx["job_id"]] += 1
        await asyncio.sleep(0)

    jobs = [str(number) for number in range(200)]
    async with running(make_worker(redis_url, [func(note, name="note")])) as work:
        await until_idle(work, client)
        for job_id in jobs:
            await client.enqueue_job("note", _job_id=job_id)
            await cut_connections(client, times=1)
        await work.until(lambda: is_empty(client), "some jobs have not ended", within_s=20)
    assert starts == Counter(jobs)
