"""What must not keep a worker from starting."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from arq.connections import ArqRedis

from tests.support.queue_keys import ID, ended, execute
from tests.support.queue_workers import NOTHING, make_worker, running

# arq 0.28 closes its pool by a name that redis-py 5 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")


@pytest.fixture
async def curious_url(client: ArqRedis, redis_url: str) -> AsyncIterator[str]:
    """The Redis' URL for somebody who may do anything but look at how it is."""
    await execute(client, "ACL SETUSER curious on >secret ~* &* +@all -info")
    yield (
        urlsplit(redis_url)._replace(netloc=f"curious:secret@{urlsplit(redis_url).netloc.rpartition('@')[2]}").geturl()
    )
    await execute(client, "ACL DELUSER curious")


async def test_a_redis_that_forbids_info(client: ArqRedis, curious_url: str) -> None:
    """A worker that may not ask Redis for its version, which it only logs, works."""
    async with running(make_worker(curious_url, [NOTHING])) as work:
        await client.enqueue_job("nothing", _job_id=ID)
        await work.until(ended(client), "it is not done")
