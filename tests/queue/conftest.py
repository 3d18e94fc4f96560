"""A plain arq client on the Redis of each test, settings that name a Redis alone, and a restorer of both stores."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from arq.connections import ArqRedis
from pydantic import SecretStr
from redis import Redis

from tests.support.authority import Authority
from tests.support.queue_keys import plain_client
from tests.support.stores import SetClock, Stores
from worker.core.settings import Settings
from worker.queue.redis_settings import make_redis
from worker.queue.redis_sync import synchronous
from worker.queue.restore import Restorer

SettingsFor = Callable[[str], Settings]


def threads_client(settings: Settings, timeout_s: float, name: str = "test") -> Redis:
    """The synchronous client of a pool that has never connected."""
    return synchronous(make_redis(settings, name), timeout_s)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[ArqRedis]:
    """A vanilla client."""
    async with plain_client(redis_url) as opened:
        yield opened


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority of this test's own."""
    return Authority.make(tmp_path)


@pytest.fixture
def settings_for() -> SettingsFor:
    """Makes the settings of a REDIS_URL."""
    return lambda url: Settings(redis_url=SecretStr(url))


@pytest.fixture
def restorer(stores: Stores, settings: Settings, clock: SetClock) -> Restorer:
    """One worker's restorer."""
    return Restorer(stores.redis, stores.database, settings, clock)
