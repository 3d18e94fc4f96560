"""The step's script on a real Redis: what it claims, what it passes by, and what it leaves to others."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
from arq.connections import ArqRedis, RedisSettings, create_pool
from redis.exceptions import ConnectionError as RedisConnectionError

from worker.queue.link import Link
from worker.queue.step import SCAN, Asked, Ending, Kind, Reply

QUEUE = "arq:queue"
ME = Asked("me", 10, 15_000)
Enqueue = Callable[..., Awaitable[None]]


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[ArqRedis]:
    """A pool on an empty Redis."""
    pool = await create_pool(RedisSettings.from_dsn(redis_url))
    yield pool
    await pool.aclose(close_connection_pool=True)


@pytest.fixture
def changed() -> asyncio.Event:
    """What the link sets when the queue has changed."""
    return asyncio.Event()


@pytest.fixture
async def link(redis: ArqRedis, changed: asyncio.Event) -> AsyncIterator[Link]:
    """A worker's line to that Redis."""
    opened = Link(redis, QUEUE, "", changed)
    yield opened
    await opened.close()


@pytest.fixture
def enqueue(redis: ArqRedis) -> Enqueue:
    """A function that enqueues jobs of some ids, one ms apart, from a while ago on."""

    async def put(*run_ids: str, ago_ms: int = 100_000) -> None:
        since = round(time.time() * 1000) - ago_ms
        for number, run_id in enumerate(run_ids):
            await redis.set(f"arq:job:{run_id}", f"payload of {run_id}")
            await redis.zadd(QUEUE, {run_id: since + number})

    return put


def ids(reply: Reply) -> list[str]:
    """What a step has claimed."""
    return [taken.run_id for taken in reply.taken]


def ending(reply: Reply, kind: Kind, **more: object) -> Ending:
    """How the only one of a step's claims ended."""
    (taken,) = reply.taken
    return replace(Ending(taken.run_id, taken.score, kind), **more)  # type: ignore[arg-type] # members of Ending


async def test_claims_the_oldest_first(link: Link, enqueue: Enqueue) -> None:
    """As many as are wanted, in the order of their due times, with payload and try."""
    await enqueue("a", "b", "c")
    reply = await link.step(replace(ME, want=2))
    assert [(one.run_id, one.payload, one.tries) for one in reply.taken] == [
        ("a", b"payload of a", 1),
        ("b", b"payload of b", 1),
    ]


async def test_the_lease_names_its_holder(link: Link, redis: ArqRedis, enqueue: Enqueue) -> None:
    """The in-progress key holds the worker's name and lives for a lease."""
    await enqueue("a")
    await link.step(replace(ME, lease_ms=5_000))
    assert await redis.get("arq:in-progress:a") == b"me"
    assert 4_000 < await redis.pttl("arq:in-progress:a") <= 5_000


async def test_passes_by_what_others_hold(link: Link, redis: ArqRedis, enqueue: Enqueue) -> None:
    """Three hundred older ones under way elsewhere do not keep a worker from the next one."""
    busy = [f"busy-{number}" for number in range(300)]
    await enqueue(*busy, "free")
    await redis.mset({f"arq:in-progress:{run_id}": "another" for run_id in busy})
    assert ids(await link.step(ME)) == ["free"]


async def test_goes_on_where_it_stopped_looking(link: Link, redis: ArqRedis, enqueue: Enqueue) -> None:
    """A step passes by so many at most, and the next one goes on from there."""
    busy = [f"busy-{number}" for number in range(SCAN + 100)]
    await enqueue(*busy, "free")
    await redis.mset({f"arq:in-progress:{run_id}": "another" for run_id in busy})
    first = await link.step(ME)
    assert (ids(first), first.scan_from) != ([], None)
    second = await link.step(replace(ME, scan_from=first.scan_from or 0))
    assert (ids(second), second.scan_from) == (["free"], None)


async def test_a_deferred_one_is_announced(link: Link, enqueue: Enqueue) -> None:
    """What is not due yet is not claimed, and the reply says when it is."""
    await enqueue("later", ago_ms=-5_000)
    reply = await link.step(ME)
    assert ids(reply) == []
    assert reply.next_ms is not None
    assert 3_000 < reply.next_ms <= 5_000


async def test_finishing_leaves_the_result_alone(link: Link, redis: ArqRedis, enqueue: Enqueue) -> None:
    """A finished run's keys go; its result stays for as long as it was told to."""
    await enqueue("a")
    done = ending(await link.step(ME), Kind.FINISH, result=b"done", result_ms=60_000)
    await link.step(replace(ME, endings=[done]))
    assert await redis.keys("*") == [b"arq:result:a"]
    assert 50_000 < await redis.pttl("arq:result:a") <= 60_000


async def test_an_interrupted_one_costs_no_try(link: Link, enqueue: Enqueue) -> None:
    """What was put back uncounted is claimed again as the same try."""
    await enqueue("a")
    back = ending(await link.step(ME), Kind.UNSPENT)
    (again,) = (await link.step(replace(ME, endings=[back]))).taken
    assert again.tries == 1


async def test_a_retried_one_is_counted(link: Link, enqueue: Enqueue) -> None:
    """What was put back counted is claimed again as the next try, and not before its time."""
    await enqueue("a")
    back = ending(await link.step(ME), Kind.SPENT, again_ms=30)
    assert ids(await link.step(replace(ME, endings=[back]))) == []
    reply = await link.step(ME)
    while not reply.taken:
        await asyncio.sleep((reply.next_ms or 0) / 1000)
        reply = await link.step(ME)
    assert reply.taken[0].tries == 2


async def test_a_newer_holders_keys_are_left(link: Link, redis: ArqRedis, enqueue: Enqueue) -> None:
    """An ending that comes after another worker's claim changes nothing."""
    await enqueue("a")
    late = ending(await link.step(ME), Kind.FINISH, result=b"late", result_ms=60_000)
    await redis.set("arq:in-progress:a", "another")
    await link.step(replace(ME, want=0, endings=[late]))
    assert await redis.get("arq:in-progress:a") == b"another"
    assert await redis.exists("arq:job:a", "arq:result:a") == 1
    assert await redis.zscore(QUEUE, "a") is not None


async def test_a_lapsed_lease_that_nobody_took_is_still_ones_own(link: Link, redis: ArqRedis, enqueue: Enqueue) -> None:
    """An ending that comes after the lease has lapsed counts while the queue's entry is the same."""
    await enqueue("a")
    done = ending(await link.step(ME), Kind.FINISH, result=b"done", result_ms=60_000)
    await redis.delete("arq:in-progress:a")
    await link.step(replace(ME, want=0, endings=[done]))
    assert await redis.keys("*") == [b"arq:result:a"]


async def test_an_ending_told_twice_spares_the_ids_next_use(link: Link, enqueue: Enqueue) -> None:
    """A repeated ending, after a lost reply, does not end a new job under the same id."""
    await enqueue("a")
    done = ending(await link.step(ME), Kind.FINISH)
    await link.step(replace(ME, endings=[done]))
    await enqueue("a", ago_ms=0)
    await link.step(replace(ME, want=0, endings=[done]))
    assert ids(await link.step(ME)) == ["a"]


async def test_a_claim_whose_reply_was_lost_is_adopted(link: Link, enqueue: Enqueue) -> None:
    """What this worker holds without knowing is handed out again, as the same try."""
    await enqueue("a", "b")
    await link.step(replace(ME, want=1))
    adopted = await link.step(replace(ME, adopt=True))
    assert [(one.run_id, one.tries) for one in adopted.taken] == [("a", 1), ("b", 1)]


async def test_what_is_under_way_is_not_adopted(link: Link, enqueue: Enqueue) -> None:
    """A run that the worker knows to be under way is not handed out a second time."""
    await enqueue("a")
    await link.step(ME)
    assert ids(await link.step(replace(ME, adopt=True, held=["a"]))) == []


async def test_an_enqueueing_is_heard(link: Link, redis: ArqRedis, changed: asyncio.Event) -> None:
    """A vanilla client's enqueueing sets the event, without any key of ours."""
    await link.step(ME)
    assert link.wakes
    changed.clear()
    await redis.enqueue_job("anything")
    await asyncio.wait_for(changed.wait(), 5)


async def test_ones_own_endings_are_not_news(
    link: Link, redis: ArqRedis, enqueue: Enqueue, changed: asyncio.Event
) -> None:
    """A step that ends a run does not wake its own worker, and the next enqueueing by another does."""
    await enqueue("a")
    done = ending(await link.step(ME), Kind.FINISH)
    changed.clear()
    await link.step(replace(ME, endings=[done]))
    await redis.ping()
    assert not changed.is_set()
    await redis.enqueue_job("anything")
    await asyncio.wait_for(changed.wait(), 5)


async def test_scripts_may_be_flushed(link: Link, redis: ArqRedis, enqueue: Enqueue) -> None:
    """A Redis that has forgotten the script gets it again, and the step is made once."""
    await link.step(ME)
    await redis.script_flush()
    await enqueue("a")
    assert [(one.run_id, one.tries) for one in (await link.step(ME)).taken] == [("a", 1)]


async def test_a_lost_ear_is_replaced(link: Link, redis: ArqRedis, changed: asyncio.Event) -> None:
    """When the connection that hears of changes is cut, the next step opens another that hears them."""
    await link.step(ME)
    changed.clear()
    await redis.client_kill_filter(_type="pubsub")
    await asyncio.wait_for(changed.wait(), 5)
    await link.step(ME)
    changed.clear()
    await redis.enqueue_job("anything")
    await asyncio.wait_for(changed.wait(), 5)


async def test_polls_where_tracking_is_forbidden(redis: ArqRedis, redis_url: str, enqueue: Enqueue) -> None:
    """A user who may not use CLIENT TRACKING can still claim; the link says that it hears nothing."""
    await redis.acl_setuser(
        "plain",
        enabled=True,
        passwords=["+secret"],
        keys=["*"],
        channels=["*"],
        categories=["+@all"],
        commands=["-client|tracking"],
    )
    try:
        plain = RedisSettings.from_dsn(redis_url)
        plain.username, plain.password = "plain", "secret"
        pool = await create_pool(plain)
        link = Link(pool, QUEUE, "", asyncio.Event())
        await enqueue("a")
        assert ids(await link.step(ME)) == ["a"]
        assert not link.wakes
        await link.close()
        await pool.aclose(close_connection_pool=True)
    finally:
        await redis.acl_deluser("plain")


async def test_a_cut_line_is_an_error_and_the_next_step_opens_anew(
    link: Link, redis: ArqRedis, enqueue: Enqueue
) -> None:
    """A step on a connection that was cut raises; after closing, the next one works."""
    await link.step(ME)
    await redis.client_kill_filter(_type="normal")
    with pytest.raises((RedisConnectionError, OSError)):
        await link.step(ME)
    await link.close()
    await enqueue("a")
    assert ids(await link.step(ME)) == ["a"]
