"""Asking Redis which runs it holds, when it does not answer."""

import socket

import pytest
from arq.connections import ArqRedis

from worker.core.errors import UnreachableError
from worker.queue.holdings import held_runs


async def test_a_redis_that_is_away_is_worth_asking_again() -> None:
    """What could not be asked is told in the house's word for it, which is tried again, and not as a job's failure."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        async with ArqRedis(host="127.0.0.1", port=nobody.getsockname()[1]) as redis:
            with pytest.raises(UnreachableError, match="which runs it holds"):
                await held_runs(redis, "arq:queue", ["one"])
