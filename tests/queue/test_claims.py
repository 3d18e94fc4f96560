"""A worker's claim on a job: it lasts while the job is worked at, and ends with the job or with its worker."""

import asyncio
import signal
import threading
import time
from typing import Any, Self

import pytest
from arq import func
from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix
from redis import Redis

from tests.support.queue_keys import ID, ended, is_empty, is_queued, result_of
from tests.support.queue_workers import LEASE_S, NOTHING, clean_up, make_worker, running, until

# arq 0.28 closes its pool by a name that redis-py 5 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")


class Watcher:
    """Looks, from a thread of its own, whether the job is claimed: the event loop may be blocked meanwhile."""

    def __init__(self, redis_url: str) -> None:
        self.seen: list[bool] = []
        self._url = redis_url
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        with Redis.from_url(self._url) as redis:
            while not self._enough.wait(0.05):
                self.seen.append(bool(redis.exists(in_progress_key_prefix + ID)))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._enough.set()
        self._thread.join()


async def claims_while_blocked(client: ArqRedis, redis_url: str, leases: float, timeout_s: float) -> list[bool]:
    """Whether a job was claimed, looked at again and again while it blocked its worker's event loop."""
    seen: list[bool] = []

    async def block(ctx: dict[str, Any]) -> None:
        del ctx
        with Watcher(redis_url) as watcher:
            time.sleep(leases * LEASE_S)  # noqa: ASYNC251 - to block is the point
        seen.extend(watcher.seen)

    await client.enqueue_job("block", _job_id=ID)
    async with running(make_worker(redis_url, [func(block, name="block", timeout=timeout_s)])) as work:
        await work.until(ended(client), "it has not ended", within_s=10)
    return seen


async def test_a_blocked_loop_keeps_its_claim(client: ArqRedis, redis_url: str) -> None:
    """A job that blocks the event loop for longer than a lease is claimed all the time."""
    assert all(await claims_while_blocked(client, redis_url, leases=2.5, timeout_s=60))


async def test_a_blocked_loop_loses_its_claim_after_its_timeout(client: ArqRedis, redis_url: str) -> None:
    """A job that hangs its worker past its own timeout is given up: another worker may have it."""
    seen = await claims_while_blocked(client, redis_url, leases=3.5, timeout_s=0.5)
    assert seen[0]
    assert not seen[-1]


@pytest.mark.parametrize("hook", ["on_job_start", "on_job_end"])
async def test_a_slow_hook_keeps_the_claim(client: ArqRedis, redis_url: str, hook: str) -> None:
    """A hook that takes longer than a lease does not let the job be started again."""
    starts: list[str] = []

    async def note(ctx: dict[str, Any]) -> None:
        starts.append(ctx["job_id"])

    async def dawdle(ctx: dict[str, Any]) -> None:
        del ctx
        await asyncio.sleep(2 * LEASE_S)

    hooks: dict[str, Any] = {hook: dawdle}
    workers = [make_worker(redis_url, [func(note, name="note")], **hooks) for _ in range(2)]
    await client.enqueue_job("note", _job_id=ID)
    async with running(workers[0]) as one, running(workers[1]):
        await one.until(ended(client), "it has not ended")
    assert starts == [ID]


async def test_a_signal_during_the_end_hook_does_not_undo_the_end(client: ArqRedis, redis_url: str) -> None:
    """What a job did before its worker was told to stop is on record, and it is not run again."""
    in_hook = asyncio.Event()

    async def linger(ctx: dict[str, Any]) -> None:
        del ctx
        in_hook.set()
        await asyncio.Event().wait()

    await client.enqueue_job("nothing", _job_id=ID)
    worker = make_worker(redis_url, [NOTHING], on_job_end=linger)
    main = asyncio.create_task(worker.async_run())
    await until(in_hook.is_set, "the hook was not called")
    worker.handle_sig(signal.SIGTERM)
    await asyncio.gather(main, worker.close(), return_exceptions=True)
    await clean_up(worker)
    assert not await is_queued(client)
    assert (await result_of(client)).result == "done"


async def test_a_burst_takes_over_what_a_dead_worker_held(client: ArqRedis, redis_url: str) -> None:
    """As arq's, a worker in burst mode waits for the claim of a worker that died, and does its job."""
    await client.enqueue_job("nothing", _job_id=ID)
    await client.set(in_progress_key_prefix + ID, b"1", px=300)
    async with running(make_worker(redis_url, [NOTHING], burst=True)) as work:
        await asyncio.wait_for(work.main, 5)
    assert (await result_of(client)).result == "done"


async def test_a_burst_waits_for_what_is_deferred(client: ArqRedis, redis_url: str) -> None:
    """As arq's, a worker in burst mode ends when the queue is empty, not when nothing is due."""
    await client.enqueue_job("nothing", _job_id=ID, _defer_by=0.3)
    async with running(make_worker(redis_url, [NOTHING], burst=True)) as work:
        await asyncio.wait_for(work.main, 5)
    assert await is_empty(client)
    assert (await result_of(client)).result == "done"
