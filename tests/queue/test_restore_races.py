"""A sweep between others: runs that end, Redis that is flushed and workers that sweep, all in the middle of it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.support.stores import QUEUE, SetClock, Stores, open_stores
from worker.core.settings import Settings
from worker.database.engine import Database
from worker.database.unfinished import read_unfinished
from worker.embedded import RedisProcess
from worker.queue import refill
from worker.queue.restore import Restorer
from worker.queue.restore_turn import LEAST_PERIOD_MS, TURN_MS, marker_key, turn_key

Meanwhile = Callable[[], Awaitable[object]]


def before_the_read(monkeypatch: pytest.MonkeyPatch, meanwhile: Meanwhile) -> None:
    """Let something happen between Redis' answer and the ledger's second reading."""

    async def read(database: Database, settings: Settings, run_ids: Collection[str]) -> AsyncIterator[object]:
        await meanwhile()
        async for page in read_unfinished(database, settings, run_ids):
            yield page

    monkeypatch.setattr(refill, "read_unfinished", read)


def after_the_read(monkeypatch: pytest.MonkeyPatch, meanwhile: Meanwhile) -> None:
    """Let something happen between the ledger's second reading and the delivery."""

    async def read(database: Database, settings: Settings, run_ids: Collection[str]) -> AsyncIterator[object]:
        async for page in read_unfinished(database, settings, run_ids):
            await meanwhile()
            yield page

    monkeypatch.setattr(refill, "read_unfinished", read)


async def end(stores: Stores, result: bytes | None = b"its result") -> None:
    """End run `r` as a worker does: in the ledger first, then in Redis."""
    await stores.change("r", status="succeeded")
    async with stores.redis.pipeline(transaction=True) as pipe:
        pipe.delete("arq:job:r", "arq:in-progress:r")
        pipe.zrem(QUEUE, "r")
        if result is not None:
            pipe.set("arq:result:r", result)
        await pipe.execute()


async def test_a_run_that_ends_before_the_second_reading_is_not_delivered(
    stores: Stores, restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing in Redis because it has just ended: the ledger says so when it is read again."""
    await stores.write("r", "running")
    before_the_read(monkeypatch, lambda: end(stores, result=None))
    restored = await restorer.run_if_needed(lost=True)
    assert restored is not None
    assert (restored.looked_at, restored.delivered) == (1, 0)
    assert await stores.payloads() == {}


async def test_a_result_is_never_destroyed_by_a_sweep(
    stores: Stores, restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ends between the second reading and the delivery keeps its result, and is not delivered."""
    await stores.write("r", "running")
    after_the_read(monkeypatch, lambda: end(stores))
    restored = await restorer.run_if_needed(lost=True)
    assert restored is not None
    assert restored.delivered == 0
    assert await stores.redis.get("arq:result:r") == b"its result"
    assert await stores.payloads() == {}


async def test_a_new_result_in_place_of_a_stale_one_is_kept(
    stores: Stores, restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result that may go is the one that was seen, not whatever stands there later."""
    await stores.write("r", "running")
    await stores.redis.set("arq:result:r", b"of an earlier ending")
    after_the_read(monkeypatch, lambda: end(stores))
    await restorer.run_if_needed(lost=True)
    assert await stores.redis.get("arq:result:r") == b"its result"


async def test_a_stale_result_goes_with_the_delivery(stores: Stores, restorer: Restorer) -> None:
    """A run that was asked for again and lost does not answer with how it ended before."""
    await stores.write("r", "queued", attempts=1)
    await stores.redis.set("arq:result:r", b"of an earlier ending")
    await restorer.run_if_needed(lost=True)
    assert await stores.redis.exists("arq:result:r") == 0
    assert set(await stores.payloads()) == {"r"}


async def test_a_flush_in_the_middle_is_noticed(
    stores: Stores, restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep whose first pages were flushed away does not say that it is done; the next one is made at once."""
    await stores.write("r")
    after_the_read(monkeypatch, stores.redis.flushall)
    restored = await restorer.run_if_needed(lost=True)
    assert restored is not None
    assert not restored.complete
    assert await stores.redis.exists(marker_key(QUEUE)) == 0
    monkeypatch.undo()
    again = await restorer.run_if_needed()
    assert again is not None
    assert (again.complete, set(await stores.payloads())) == (True, {"r"})


async def test_of_many_workers_one_sweeps(
    stores: Stores, settings: Settings, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one is at it another leaves it alone, asks again a second later, and then finds it done."""
    await stores.write("r")
    first, second = (Restorer(stores.redis, stores.database, settings, clock) for _ in range(2))
    answers: list[object] = []

    async def second_tries() -> None:
        answers.append(await second.run_if_needed(lost=True))

    after_the_read(monkeypatch, second_tries)
    restored = await first.run_if_needed(lost=True)
    assert restored is not None
    assert (restored.complete, answers) == (True, [None])
    clock.pass_s(1.5)
    assert await second.run_if_needed(lost=True) is None


async def test_a_turn_that_has_passed_on_ends_its_sweep(
    stores: Stores, restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was so slow that another began stops, and leaves marker and turn to that one."""
    await stores.write("r")
    await stores.redis.enqueue_job("scripted", _job_id="only here")

    async def take_over() -> None:
        await stores.redis.set(turn_key(QUEUE), b"another's", px=TURN_MS)

    after_the_read(monkeypatch, take_over)
    restored = await restorer.run_if_needed(lost=True)
    assert restored is not None
    assert (restored.complete, restored.kept) == (False, 0)
    assert await stores.redis.get(turn_key(QUEUE)) == b"another's"
    assert await stores.redis.exists(marker_key(QUEUE)) == 0


async def test_the_next_sweep_is_a_minute_later(restorer: Restorer, clock: SetClock) -> None:
    """With the marker in place a sweep is made a minute after the last one, and no sooner."""
    assert await restorer.run_if_needed() is not None
    clock.pass_s(LEAST_PERIOD_MS / 1000 - 1)
    assert await restorer.run_if_needed() is None
    assert await restorer.run_if_needed(lost=True) is None, "the marker is there, whatever the caller saw"
    clock.pass_s(2)
    assert await restorer.run_if_needed() is not None


async def test_long_sweeps_are_rare(
    stores: Stores, settings: Settings, restorer: Restorer, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a sweep of ten seconds the next one waits for two hundred, for every worker."""
    await stores.write("r")

    async def take_ten_seconds() -> None:
        clock.took_ms = 10_000

    after_the_read(monkeypatch, take_ten_seconds)
    other = Restorer(stores.redis, stores.database, settings, clock)
    assert await restorer.run_if_needed() is not None
    clock.pass_s(199)
    assert await restorer.run_if_needed() is None
    assert await other.run_if_needed() is None
    clock.pass_s(2)
    assert await other.run_if_needed() is not None


async def test_a_lost_marker_is_swept_for_at_once(stores: Stores, restorer: Restorer) -> None:
    """A flush right after a sweep is made good as soon as a step sees that the marker is gone."""
    await stores.write("r")
    await restorer.run_if_needed()
    await stores.redis.flushall()
    assert await restorer.run_if_needed() is None, "without the caller's word no round trip is made"
    restored = await restorer.run_if_needed(lost=True)
    assert restored is not None
    assert restored.delivered == 1


async def test_a_marker_from_the_future_does_not_stop_sweeps(
    stores: Stores, restorer: Restorer, clock: SetClock
) -> None:
    """What a worker with a wrong clock wrote holds the others up no longer than its own period."""
    await restorer.run_if_needed()
    clock.pass_s(-365 * 86_400)
    other = Restorer(stores.redis, stores.database, restorer._settings, clock)
    assert await other.run_if_needed() is not None


async def test_a_lost_database_is_told_and_the_turn_given_back(
    stores: Stores, restorer: Restorer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep that the database breaks off raises what it met, and the next try begins at once."""
    await stores.write("r")

    async def fail() -> None:
        async with database.engine.connect() as connection:
            await connection.execute(text("SELECT 1 / 0"))

    before_the_read(monkeypatch, fail)
    with pytest.raises(DBAPIError):
        await restorer.run_if_needed(lost=True)
    monkeypatch.undo()
    restored = await restorer.run_if_needed(lost=True)
    assert restored is not None
    assert restored.delivered == 1


async def test_a_redis_that_restarts_empty_in_mid_sweep(
    database: Database, settings: Settings, clock: SetClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its absence is what the caller is told, not swallowed; once it is back, with nothing in it, all comes back."""
    with RedisProcess(tmp_path / "redis", options={"appendonly": "no"}) as server:
        own = settings.model_copy(update={"redis_url": SecretStr(server.url)})
        async with open_stores(own, database) as stores:
            await stores.write("r")
            restorer = Restorer(stores.redis, database, own, clock)

            async def stop() -> None:
                server.stop()

            after_the_read(monkeypatch, stop)
            with pytest.raises(RedisError):
                await restorer.run_if_needed(lost=True)
            with pytest.raises(RedisError):
                await restorer.run_if_needed(lost=True)
            monkeypatch.undo()
            server.start()
            restored = await restorer.run_if_needed(lost=True)
            assert restored is not None
            assert (restored.complete, set(await stores.payloads())) == (True, {"r"})
