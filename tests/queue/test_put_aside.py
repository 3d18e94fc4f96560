"""What a worker does not know or cannot read is put aside whole, for one that does."""

import json

import pytest
from arq import func
from arq.connections import ArqRedis
from arq.constants import job_key_prefix

from tests.support.queue_keys import ID, QUEUE, ended, now_ms, result_of, tries
from tests.support.queue_workers import NOTHING, make_worker, running

# arq 0.28 closes its pool by a name that redis-py 5 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")


async def is_put_off_or_gone(client: ArqRedis) -> bool:
    """Whether a worker has looked at the job: it is due later, or destroyed."""
    score = await client.zscore(QUEUE, ID)
    return score is None or score > now_ms()


async def assert_done_once_due(client: ArqRedis, redis_url: str) -> None:
    """The job is whole, has had no try, and a worker that knows it does it when it is due."""
    assert await client.exists(job_key_prefix + ID), "its payload was destroyed"
    assert await tries(client) == 0
    await client.zadd(QUEUE, {ID: now_ms()}, xx=True)
    async with running(make_worker(redis_url, [NOTHING])) as newer:
        await newer.until(ended(client), "the worker that knows it does not do it")
    assert (await result_of(client)).result == "done"


async def test_an_unknown_function_waits_for_a_worker_that_knows_it(client: ArqRedis, redis_url: str) -> None:
    """A job of a newer version, met by an older worker, is put off, and done by a newer one."""
    await client.enqueue_job("nothing", _job_id=ID)
    async with running(make_worker(redis_url, [func(NOTHING.coroutine, name="something_else")])) as older:
        await older.until(lambda: is_put_off_or_gone(client), "it was not looked at")
    await assert_done_once_due(client, redis_url)


async def test_an_undecodable_payload_waits_for_a_worker_that_can_read_it(client: ArqRedis, redis_url: str) -> None:
    """A payload in another codec than a worker's is put off, and done by one that reads it."""
    await client.enqueue_job("nothing", _job_id=ID)
    async with running(make_worker(redis_url, [NOTHING], job_deserializer=json.loads)) as other:
        await other.until(lambda: is_put_off_or_gone(client), "it was not looked at")
    await assert_done_once_due(client, redis_url)
