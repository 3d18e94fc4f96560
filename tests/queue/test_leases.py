"""Leases are renewed by a thread of their own, for their holder only, and not for ever."""

import time
from collections.abc import Iterator

import pytest
from redis import Redis

from worker.queue.leases import LeaseKeeper

LEASE_S = 0.6
KEY = "arq:in-progress:run"


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A blocking client of an empty Redis."""
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def keeper(redis_url: str, redis: Redis) -> Iterator[LeaseKeeper]:
    """A keeper of the holder `me`, and a run that it has just claimed."""
    redis.set("arq:job:run", "payload")
    redis.set(KEY, "me", px=round(LEASE_S * 1000))
    started = LeaseKeeper(lambda: Redis.from_url(redis_url, socket_timeout=LEASE_S / 4), "me", LEASE_S)
    yield started
    started.stop()


async def test_a_blocked_event_loop_keeps_its_leases(keeper: LeaseKeeper, redis: Redis) -> None:
    """While a job holds the event loop up for three leases, the run stays its own."""
    keeper.hold("run", None)
    time.sleep(LEASE_S * 3)  # noqa: ASYNC251 - blocking the loop is the point
    assert redis.get(KEY) == b"me"


def test_past_the_jobs_own_timeout_a_lease_lapses(keeper: LeaseKeeper, redis: Redis) -> None:
    """A job that is stuck beyond its timeout loses its run, however alive its process is."""
    keeper.hold("run", LEASE_S / 10)
    time.sleep(LEASE_S * 2)
    assert redis.get(KEY) is None


def test_another_workers_lease_is_left_alone(keeper: LeaseKeeper, redis: Redis) -> None:
    """A lease that was lost to another worker is neither renewed nor taken back."""
    keeper.hold("run", None)
    redis.set(KEY, "another", px=round(LEASE_S * 1000))
    time.sleep(LEASE_S * 2)
    assert redis.get(KEY) is None


def test_a_lease_that_redis_lost_is_taken_again(keeper: LeaseKeeper, redis: Redis) -> None:
    """Where the lease is gone but the run is there, and nobody else has taken it, its holder takes it again."""
    keeper.hold("run", None)
    redis.delete(KEY)
    until = time.monotonic() + 10
    while redis.get(KEY) != b"me":
        assert time.monotonic() < until
        time.sleep(0.01)


def test_no_lease_is_made_for_a_run_that_has_ended(keeper: LeaseKeeper, redis: Redis) -> None:
    """Where the payload is gone as well there is nothing to lease."""
    keeper.hold("run", None)
    redis.delete(KEY, "arq:job:run")
    time.sleep(LEASE_S)
    assert redis.get(KEY) is None


def test_renewal_outlasts_a_cut_connection(keeper: LeaseKeeper, redis: Redis) -> None:
    """A renewal that failed is made up for by the next one."""
    keeper.hold("run", None)
    for _ in range(4):
        time.sleep(LEASE_S / 3)
        redis.client_kill_filter(_type="normal", skipme=True)
    assert redis.get(KEY) == b"me"
