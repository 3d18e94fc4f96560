"""A plain arq client, which knows nothing of Heavylift, on the Redis of each test."""

from collections.abc import AsyncIterator

import pytest
from arq.connections import ArqRedis

from tests.support.queue_keys import plain_client


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[ArqRedis]:
    """A vanilla client."""
    async with plain_client(redis_url) as opened:
        yield opened
