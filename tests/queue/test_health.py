"""What `arq --check` says: whether some worker of the queue lives."""

from collections.abc import Awaitable, Callable

import pytest
from arq.connections import ArqRedis, RedisSettings
from arq.worker import async_check_health

from tests.support.queue_keys import ID, ended
from tests.support.queue_workers import NOTHING, make_worker, running, until

# arq 0.28 closes its pool by a name that redis-py 5 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")


def check(redis_url: str) -> Callable[[], Awaitable[bool]]:
    """Asks whether `arq --check` is content."""

    async def is_healthy() -> bool:
        return await async_check_health(RedisSettings.from_dsn(redis_url)) == 0

    return is_healthy


async def test_the_check_follows_the_worker(redis_url: str) -> None:
    """The check succeeds soon after a worker has started, and fails once the last one has ended."""
    assert not await check(redis_url)()
    async with running(make_worker(redis_url, [NOTHING])) as work:
        await work.until(check(redis_url), "the check fails though a worker lives")
    assert not await check(redis_url)()


async def test_one_workers_end_does_not_make_the_queue_look_dead(client: ArqRedis, redis_url: str) -> None:
    """While another worker lives the check succeeds, soon again, after one has ended."""
    async with running(make_worker(redis_url, [NOTHING])) as stays:
        await stays.until(check(redis_url), "the check fails though a worker lives")
        async with running(make_worker(redis_url, [NOTHING])) as leaves:
            await client.enqueue_job("nothing", _job_id=ID)
            await leaves.until(ended(client), "the job is not done")
        await until(check(redis_url), "the check fails though a worker lives")
