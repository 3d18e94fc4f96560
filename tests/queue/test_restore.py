"""Redis lost something: what the ledger knows is not over comes back, and nothing else happens."""

import pickle
import time
from datetime import timedelta

import pytest
from arq.connections import RedisSettings, create_pool
from sqlalchemy import Connection, event, text

from tests.conftest import MakeRunner
from tests.support.stores import ENQUEUED, NOW, QUEUE, Stores
from worker.client import Client
from worker.core.clock import SystemClock, from_ms, to_ms
from worker.core.outcomes import Succeeded
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.ledger import Ledger
from worker.database.unfinished import PAGE_ROWS, _page
from worker.main import load_declared
from worker.queue.functions import PARKED_S
from worker.queue.restore import Restored, Restorer
from worker.queue.restore_turn import marker_key

LATER = NOW + timedelta(hours=2)
SOON = NOW + timedelta(seconds=30)


async def swept(restorer: Restorer) -> Restored:
    """Sweep at once, as after a flush."""
    restored = await restorer.run_if_needed(lost=True)
    assert restored is not None
    return restored


async def of_each_kind(stores: Stores) -> None:
    """Runs of every status in the ledger."""
    await stores.write("queued")
    await stores.write("deferred", "waiting", due_at=LATER, waiting_for="deferred until ...")
    await stores.write("backing off", "waiting", due_at=SOON, waiting_for="backing off until ...", attempts=1)
    await stores.write("running", "running", started_at=NOW)
    await stores.write("held", "waiting", waiting_for="the database is busy", started_at=NOW)
    await stores.write("paused", "paused", started_at=NOW)
    for status in ("succeeded", "failed", "cancelled"):
        await stores.write(status, status, started_at=NOW, finished_at=NOW)
    await stores.write("elsewhere", queue="arq:other")


async def test_a_flushed_redis_gets_back_exactly_what_is_not_over(
    stores: Stores, restorer: Restorer, settings: Settings
) -> None:
    """Queued, deferred, backing off, running, held and paused runs of this queue are back, each when it is due."""
    await of_each_kind(stores)
    before_ms = time.time() * 1000
    restored = await swept(restorer)
    after_ms = time.time() * 1000
    scores = await stores.scores()
    assert (restored.looked_at, restored.delivered, restored.complete) == (6, 6, True)
    exact = {"queued": to_ms(ENQUEUED), "deferred": to_ms(LATER), "backing off": to_ms(SOON)}
    ahead_ms = {"running": settings.lease_s * 1000, "held": settings.lease_s * 1000, "paused": PARKED_S * 1000}
    assert {run_id: scores[run_id] for run_id in exact} == exact
    assert {run_id for run_id, ms in ahead_ms.items() if before_ms - 1 <= scores[run_id] - ms <= after_ms} == {
        *ahead_ms
    }
    assert set(await stores.payloads()) == set(scores) == {*exact, *ahead_ms}


async def test_nothing_that_is_back_expires(stores: Stores, restorer: Restorer) -> None:
    """Neither payloads nor the marker nor the queue have an expiry."""
    await of_each_kind(stores)
    await swept(restorer)
    keys = [key async for key in stores.redis.scan_iter(count=1000)]
    assert {await stores.redis.ttl(key) for key in keys} == {-1}
    assert marker_key(QUEUE).encode() in keys


@pytest.mark.parametrize("wire", ["json", "pickle"])
async def test_a_payload_comes_back_as_our_client_wrote_it(stores: Stores, settings: Settings, wire: str) -> None:
    """Byte for byte: job, parameters, options, codec and, above all, the enqueue time."""
    chosen = settings.model_copy(update={"wire": wire})
    restorer = Restorer(stores.redis, stores.database, chosen, SystemClock())
    registry = load_declared(settings).registry
    client = Client(chosen, stores.database, Ledger(stores.database, chosen, "client"), stores.redis, registry, None)
    await client.enqueue("scripted", {"value": 7}, run_id="r")
    await client.enqueue("scripted", {"value": 7}, run_id="later", delay=timedelta(hours=1), options={"all": True})
    before = await stores.raw_payloads(), await stores.scores()
    await stores.redis.flushall()
    await swept(restorer)
    assert (await stores.raw_payloads(), await stores.scores()) == before


async def test_a_vanilla_clients_run_comes_back_as_a_pickle(stores: Stores, restorer: Restorer) -> None:
    """A client that knows nothing but arq can read the result of a run that Redis had lost."""
    await stores.write("vanilla", enqueued_by=None, params={"value": 7}, options={"all": True})
    await swept(restorer)
    payload = (await stores.raw_payloads())["vanilla"]
    told = {"t": None, "f": "scripted", "a": (), "k": {"value": 7, "_options": {"all": True}}, "et": to_ms(ENQUEUED)}
    assert pickle.loads(payload) == told  # noqa: S301 - what this very test had written


async def test_a_restored_delivery_is_the_same_run(
    stores: Stores, restorer: Restorer, make_runner: MakeRunner, settings: Settings
) -> None:
    """Claimed from its restored payload a run is not taken for a new use of its id."""
    await stores.write("r")
    await swept(restorer)
    payload = (await stores.payloads())["r"]
    runner = make_runner()
    delivery = Delivery("r", "scripted", {"value": 1}, {}, settings.queue, int(str(payload["et"])))
    assert await runner.run(delivery) == Succeeded(1)
    assert await runner.run(delivery) == Succeeded(1)
    assert (await runner.ledger.read("r")).attempts == 1


@pytest.mark.parametrize("lost", ["payloads", "queue"])
async def test_a_partial_loss_is_made_good(stores: Stores, restorer: Restorer, lost: str) -> None:
    """Where only payloads, or only queue entries, are gone they come back; the other half stays as it was."""
    await of_each_kind(stores)
    await swept(restorer)
    payloads, scores = await stores.raw_payloads(), await stores.scores()
    if lost == "payloads":
        await stores.redis.delete("arq:job:queued", "arq:job:paused")
    else:
        payloads["queued"] = b"as its client wrote it"
        await stores.redis.set("arq:job:queued", payloads["queued"])
        await stores.redis.zrem(QUEUE, "queued", "deferred")
    assert (await swept_again(restorer, stores)).delivered == 2
    assert (await stores.raw_payloads(), await stores.scores()) == (payloads, scores)


async def swept_again(restorer: Restorer, stores: Stores) -> Restored:
    """Sweep, though the last one was just now."""
    await stores.redis.delete(marker_key(QUEUE))
    return await swept(restorer)


async def test_a_second_sweep_changes_nothing(stores: Stores, restorer: Restorer) -> None:
    """What is there stays as it is: payloads of a newer use, scores that somebody moved, leases, results."""
    await of_each_kind(stores)
    await swept(restorer)
    await stores.redis.set("arq:job:queued", b"somebody else's")
    await stores.redis.set("arq:in-progress:running", b"its holder")
    await stores.redis.set("arq:result:running", b"an old one")
    await stores.redis.zadd(QUEUE, {"paused": 5, "deferred": 6})
    before = {key: await stores.redis.dump(key) async for key in stores.redis.scan_iter(count=1000)}
    restored = await swept_again(restorer, stores)
    assert (restored.looked_at, restored.delivered, restored.kept) == (6, 0, 0)
    assert {key: await stores.redis.dump(key) async for key in stores.redis.scan_iter(count=1000)} == before


async def test_an_expiry_does_not_end_a_run_that_the_ledger_knows(stores: Stores, restorer: Restorer) -> None:
    """A payload of a claimed run loses its expiry, whatever it is; one of a finished run keeps it."""
    await stores.write("claimed", "running", enqueued_by=None)
    await stores.write("over", "succeeded", enqueued_by=None)
    for run_id in ("claimed", "over"):
        await stores.redis.set(f"arq:job:{run_id}", b"x", ex=30)
        await stores.redis.zadd(QUEUE, {run_id: 1})
    await swept(restorer)
    assert await stores.redis.ttl("arq:job:claimed") == -1
    assert await stores.redis.ttl("arq:job:over") > 0


async def test_pages_are_bounded_and_each_costs_two_statements(stores: Stores, restorer: Restorer) -> None:
    """Looking costs a read a page; restoring one more; each with its limits, and no run is passed by."""
    many = 2 * PAGE_ROWS + 10
    for number in range(many):
        # seven of one moment, across the pages' ends too: the order goes by id where the moment is the same
        status = ("queued", "running", "waiting", "paused")[number % 4]
        await stores.write(f"r{number}", status, enqueued_at=ENQUEUED + timedelta(seconds=number // 7))
    statements: list[str] = []

    def note(_c: Connection, _cur: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(stores.database.engine.sync_engine, "before_cursor_execute", note)
    assert (await swept(restorer)).delivered == many
    # three pages and an empty one, each of three followed by the read of what is missing (and the end of that)
    reads = [statement for statement in statements if "heavylift_runs" in statement]
    assert len(reads) == 3 + 1 + 3
    assert len(await stores.payloads()) == many
    statements.clear()
    assert (await swept_again(restorer, stores)).delivered == 0
    assert len([statement for statement in statements if "heavylift_runs" in statement]) == 3 + 1


async def test_large_parameters_are_read_a_few_at_a_time(stores: Stores, restorer: Restorer) -> None:
    """Runs with a megabyte of parameters each are restored in several reads, every one of them."""
    for number in range(5):
        await stores.write(f"r{number}", params={"source": "x" * 1_000_000})
    sizes: list[int] = []

    def note(_c: Connection, _cur: object, statement: str, *_: object) -> None:
        if "over (order by" in statement.lower():
            sizes.append(1)

    event.listen(stores.database.engine.sync_engine, "before_cursor_execute", note)
    assert (await swept(restorer)).delivered == 5
    assert len(sizes) == 3
    assert {len(payload) > 1_000_000 for payload in (await stores.raw_payloads()).values()} == {True}


async def test_what_no_worker_could_read_is_not_delivered(stores: Stores, restorer: Restorer) -> None:
    """A run whose payload would be too large is shown waiting for that reason, and the others come back."""
    await stores.write("huge", params={"source": "x" * 9_000_000})
    await stores.write("small")
    restored = await swept(restorer)
    assert (restored.delivered, restored.refused) == (1, 1)
    assert await stores.status("huge") == "waiting"
    assert set(await stores.payloads()) == {"small"}


async def test_a_backlog_outlives_arqs_expiry(stores: Stores, restorer: Restorer, redis_url: str) -> None:
    """Payloads that a vanilla client enqueued, deferred ones too, lose the day that arq gives them unasked."""
    vanilla = await create_pool(RedisSettings.from_dsn(redis_url))
    for number in range(1_200):
        await vanilla.enqueue_job("scripted", _job_id=f"r{number}", _defer_by=number % 3 * 5_000)
    await vanilla.aclose(close_connection_pool=True)
    assert (await swept(restorer)).kept == 1_200
    assert {await stores.redis.ttl(f"arq:job:r{number}") for number in range(1_200)} == {-1}


async def test_an_expiry_that_was_asked_for_stays(stores: Stores, restorer: Restorer, redis_url: str) -> None:
    """A payload with an `_expires` of its client's own keeps it."""
    vanilla = await create_pool(RedisSettings.from_dsn(redis_url))
    await vanilla.enqueue_job("scripted", _job_id="an hour", _expires=3_600)
    await vanilla.enqueue_job("scripted", _job_id="a week", _expires=7 * 86_400, _defer_by=60)
    await vanilla.enqueue_job("scripted", _job_id="a day and two minutes", _expires=86_400 + 120)
    await vanilla.aclose(close_connection_pool=True)
    assert (await swept(restorer)).kept == 0
    assert await stores.redis.ttl("arq:job:an hour") > 3_000
    assert await stores.redis.ttl("arq:job:a week") > 600_000
    assert await stores.redis.ttl("arq:job:a day and two minutes") > 86_400


async def test_looking_for_the_unfinished_passes_the_finished_by(stores: Stores) -> None:
    """Among many finished runs a page is a short walk along an index for each status, wherever it begins."""
    async with stores.database.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO heavylift_runs (id, job, queue, params, options, status, enqueued_ms, enqueued_at) "
                "SELECT 'r' || n, 'j', :queue, '{}', '{}', CASE WHEN n % 100 = 0 THEN 'queued' ELSE 'succeeded' END, "
                "n, to_timestamp(n) FROM generate_series(1, 50000) AS n"
            ),
            {"queue": QUEUE},
        )
        await connection.execute(text("ANALYZE heavylift_runs"))
        dialect = stores.database.engine.dialect
        for after in (None, (from_ms(20_000_000), "r20000")):
            page = _page(QUEUE, after).compile(dialect=dialect, compile_kwargs={"literal_binds": True})
            plan = "\n".join((await connection.execute(text(f"EXPLAIN {page}".replace(":", r"\:")))).scalars())
            assert "Seq Scan" not in plan
            assert plan.count("heavylift_runs_status_enqueued_at_idx") == 4
