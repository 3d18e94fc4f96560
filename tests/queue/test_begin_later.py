"""Deliveries that a worker's loop cannot begin as they are: put aside, taken up by another worker, or recalled."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from arq import func
from arq.connections import ArqRedis
from arq.jobs import Job

from tests.support.stores import NOW, QUEUE, Stores
from worker.core.clock import SystemClock
from worker.core.settings import Settings
from worker.database.claims import UNREADABLE
from worker.database.ledger import Ledger
from worker.main import RUNNER, load_declared, worker_options
from worker.queue.claiming import claiming
from worker.queue.in_flight import Hooks
from worker.queue.put_aside import pull_forward, putting_aside
from worker.queue.queue_worker import QueueWorker
from worker.queue.recall import recalling
from worker.queue.redis_settings import open_redis
from worker.queue.wire import make_deserializer
from worker.run.stop_signal import StopSignal


async def other(ctx: object) -> None:
    """All that an older worker knows."""


@pytest.fixture
def ledger(stores: Stores, settings: Settings) -> Ledger:
    """A worker's ledger."""
    return Ledger(stores.database, settings, "test")


@pytest.fixture
async def older(settings: Settings, ledger: Ledger) -> AsyncIterator[QueueWorker]:
    """A worker, not started, that knows no job of Heavylift's."""
    hooks = Hooks(put_aside=putting_aside(lambda: ledger, settings, SystemClock()))
    pool = await open_redis(settings)
    worker = QueueWorker(
        [func(other, name="other")],
        redis_pool=pool,
        job_deserializer=make_deserializer(),
        burst=True,
        hooks=hooks,
        handle_signals=False,
    )
    yield worker
    await worker.close()


@asynccontextmanager
async def newer(settings: Settings) -> AsyncIterator[QueueWorker]:
    """A worker, not started, that knows them all, and recalls payloads that Redis has lost."""
    options = worker_options(settings, StopSignal())

    def ledger() -> Ledger:
        found: Ledger = worker.ctx[RUNNER].ledger
        return found

    registry = load_declared(settings).registry
    hooks = Hooks(prepare=claiming(ledger, registry, settings), recall=recalling(ledger, settings))
    pool = await open_redis(settings)
    worker = QueueWorker(redis_pool=pool, burst=True, hooks=hooks, handle_signals=False, **options)
    yield worker
    await worker.close()


async def test_an_unknown_job_waits_for_a_worker_that_knows_it(
    stores: Stores, settings: Settings, client: ArqRedis, ledger: Ledger, older: QueueWorker
) -> None:
    """An older worker shows it and leaves it; a newer one pulls it forward and runs it, for the client that asked."""
    job = await client.enqueue_job("scripted", "return", 7, _job_id="r")
    assert job is not None
    await older.main()
    record = await ledger.read("r")
    assert (record.job, record.status.value, record.params) == ("scripted", "waiting", {"*args": ["return", 7]})
    assert await pull_forward(stores.redis, stores.database, settings, ["scripted"], SystemClock()) == 1
    async with newer(settings) as worker:
        await worker.main()
    assert await job.result(timeout=5) == 7
    record = await ledger.read("r")
    assert (record.status.value, record.params, record.attempts) == ("succeeded", {"ending": "return", "value": 7}, 1)


async def test_what_cannot_be_read_is_shown_and_stays(
    stores: Stores, client: ArqRedis, ledger: Ledger, older: QueueWorker
) -> None:
    """Its payload is as it was, and the ledger tells why nothing is done about it."""
    await client.set("arq:job:odd", b"\x1f\x8b")
    await client.zadd(QUEUE, {"odd": 5})
    await older.main()
    record = await ledger.read("odd")
    assert (record.job, record.status.value) == (UNREADABLE, "waiting")
    assert "neither JSON" in str(record.waiting_for)
    assert await stores.raw_payloads() == {"odd": b"\x1f\x8b"}


async def test_a_lost_payload_is_made_again_from_the_ledger(
    stores: Stores, settings: Settings, client: ArqRedis
) -> None:
    """A run whose payload is gone when it is due is done all the same, not failed as expired."""
    await stores.write("r", enqueued_by=None, params={"value": 7})
    await client.zadd(QUEUE, {"r": 5})
    async with newer(settings) as worker:
        await worker.main()
    assert await Job("r", client).result(timeout=5) == 7
    assert await stores.status("r") == "succeeded"


async def test_a_finished_runs_stray_entry_is_answered_with_its_result(
    stores: Stores, settings: Settings, client: ArqRedis
) -> None:
    """A queue entry without payload whose run is over gives the stored result once more, and does nothing again."""
    await stores.write("r", "succeeded", enqueued_by=None, result=5, started_at=NOW, finished_at=NOW)
    await client.zadd(QUEUE, {"r": 5})
    async with newer(settings) as worker:
        await worker.main()
    assert await Job("r", client).result(timeout=5) == 5
    assert await stores.payloads() == {}


@pytest.mark.parametrize("run_id", ["nobody's", "odd"])
async def test_what_the_ledger_cannot_make_is_not_made_up(
    stores: Stores, settings: Settings, ledger: Ledger, run_id: str
) -> None:
    """Of an unknown run, and of one that nobody ever read, there is no payload."""
    await stores.write("odd", "waiting", job=UNREADABLE, params={}, enqueued_by=None)
    assert await recalling(lambda: ledger, settings)(run_id) is None
