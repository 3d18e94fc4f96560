"""Many runs of one job enqueued in one call: all or none, in order, in few statements and round trips."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from arq import create_pool
from arq.connections import RedisSettings
from redis.asyncio import Redis
from sqlalchemy import event, func, select, text
from sqlalchemy.exc import DBAPIError

from worker import ConflictError, ParametersError, open_client
from worker.client import Client
from worker.client.orders import MOST_RUNS
from worker.core.clock import to_ms
from worker.core.errors import PayloadError, UnreachableError
from worker.core.outcomes import Status
from worker.core.settings import Settings
from worker.database.tables import RUNS
from worker.main import load_declared, run_worker
from worker.queue.wire import decode

JOB = "scripted"


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Client]:
    """A client of the scripted jobs."""
    async with open_client(settings, load_declared(settings).registry) as client:
        yield client


def values(count: int) -> list[dict[str, object]]:
    """Parameters of so many runs, all different."""
    return [{"value": number} for number in range(count)]


def sized(size: int) -> dict[str, object]:
    """Parameters of `bulk_upsert` with a value of so many characters in them."""
    return {"table": "item", "source": {"rows": [{"sku": "x" * size}]}}


async def ledger_size(client: Client) -> int:
    """How many runs the ledger has."""
    async with client.database.engine.connect() as connection:
        return int((await connection.execute(select(func.count()).select_from(RUNS))).scalar_one())


async def test_records_are_in_the_order_asked_for(settings: Settings) -> None:
    """Whatever order ids sort in, the n-th record is of the n-th parameters."""
    ids = [f"run-{number}" for number in (10, 2, 33, 1)]
    async with connected(settings) as client:
        records = await client.enqueue_many(JOB, values(4), run_ids=ids)
    assert [record.id for record in records] == ids
    assert [record.params for record in records] == values(4)


@pytest.mark.parametrize("delay", [None, timedelta(hours=1)], ids=["at once", "later"])
async def test_records_are_as_the_ledger_has_them(settings: Settings, delay: timedelta | None) -> None:
    """What is returned of a new run is what is read of it."""
    async with connected(settings) as client:
        records = await client.enqueue_many(JOB, values(2), delay=delay)
        assert [await client.get(record.id) for record in records] == records


async def test_each_run_runs_once(settings: Settings) -> None:
    """A worker runs them all, each with its own parameters."""
    async with connected(settings) as client:
        records = await client.enqueue_many(JOB, values(30))
        await run_worker(settings, burst=True)
        ended = [await client.get(record.id) for record in records]
    assert [(run.status, run.result, run.attempts) for run in ended] == [
        (Status.SUCCEEDED, number, 1) for number in range(30)
    ]


async def test_no_runs_are_no_error(settings: Settings) -> None:
    """An empty list enqueues nothing."""
    async with connected(settings) as client:
        assert await client.enqueue_many(JOB, []) == []


async def test_an_id_that_comes_twice_is_one_run(settings: Settings, redis_url: str) -> None:
    """The same id with the same parameters, twice in a call, is one run: its record stands twice."""
    async with connected(settings) as client, Redis.from_url(redis_url) as redis:
        records = await client.enqueue_many(JOB, [{"value": 1}] * 2, run_ids=["same", "same"])
        assert records[0] == records[1]
        assert await ledger_size(client) == 1
        assert await redis.zcard(settings.queue) == 1


async def test_an_id_twice_with_other_parameters_is_refused(settings: Settings, redis_url: str) -> None:
    """The same id with other parameters in one call is a conflict, and nothing of the call is enqueued."""
    async with connected(settings) as client, Redis.from_url(redis_url) as redis:
        with pytest.raises(ConflictError, match="'same' exists with other parameters"):
            await client.enqueue_many(JOB, values(3), run_ids=["same", "other", "same"])
        assert await ledger_size(client) == 0
        assert await redis.zcard(settings.queue) == 0


async def test_a_conflict_in_a_later_batch_undoes_the_earlier(settings: Settings, redis_url: str) -> None:
    """All are enqueued or none, however many batches there are."""
    ids = [f"{number:05}" for number in range(MOST_RUNS + 1)]
    async with connected(settings) as client, Redis.from_url(redis_url) as redis:
        await client.enqueue(JOB, {"value": -1}, run_id=ids[-1])
        with pytest.raises(ConflictError, match=ids[-1]):
            await client.enqueue_many(JOB, values(len(ids)), run_ids=ids)
        assert await ledger_size(client) == 1
        assert await redis.zrange(settings.queue, 0, -1) == [ids[-1].encode()]


async def test_one_that_does_not_fit_refuses_all(settings: Settings) -> None:
    """Parameters that do not fit are named by index before anything is written down."""
    async with connected(settings) as client:
        with pytest.raises(ParametersError, match="unknown parameter 'vlaue'") as caught:
            await client.enqueue_many(JOB, [{"value": 1}, {"vlaue": 2}])
        assert await ledger_size(client) == 0
    assert caught.value.__notes__ == ["This is of index 1, of 2 runs; none of them is enqueued"]


async def test_a_payload_too_large_refuses_all(settings: Settings) -> None:
    """A payload above the limit is found before anything is written down."""
    small = settings.model_copy(update={"max_payload_bytes": 1024})
    async with connected(small) as client:
        with pytest.raises(PayloadError, match="WORKER_MAX_PAYLOAD_BYTES"):
            await client.enqueue_many("bulk_upsert", [sized(1), sized(1024)])
        assert await ledger_size(client) == 0


async def test_as_many_ids_as_runs(settings: Settings) -> None:
    """Ids that are too few are refused, with an example."""
    async with connected(settings) as client:
        with pytest.raises(ParametersError, match="1 run ids were given for 2 runs"):
            await client.enqueue_many(JOB, values(2), run_ids=["one"])


async def test_existing_runs_are_found(settings: Settings, redis_url: str) -> None:
    """Among new runs, one that has ended already is returned as it is, and not delivered again."""
    async with connected(settings) as client, Redis.from_url(redis_url) as redis:
        await client.enqueue(JOB, {"value": 0}, run_id="a")
        await run_worker(settings, burst=True)
        records = await client.enqueue_many(JOB, values(2), run_ids=["a", "b"])
        assert [record.status for record in records] == [Status.SUCCEEDED, Status.QUEUED]
        assert await redis.zrange(settings.queue, 0, -1) == [b"b"]


async def test_a_delivery_that_was_lost_is_made_again(settings: Settings, redis_url: str) -> None:
    """Runs that the ledger has and Redis not are delivered again, with the ledger's enqueue time: the same use."""
    async with connected(settings) as client, Redis.from_url(redis_url) as redis:
        first = await client.enqueue_many(JOB, values(3), run_ids=["a", "b", "c"])
        await redis.flushall()
        later = replace(client, clock=Later())
        assert await later.enqueue_many(JOB, values(3), run_ids=["a", "b", "c"]) == first
        assert await redis.zrange(settings.queue, 0, -1, withscores=True) == [
            (run.id.encode(), to_ms(run.enqueued_at)) for run in first
        ]
        payloads = [await redis.get(f"arq:job:{run.id}") for run in first]
        assert [decode(payload)["et"] for payload in payloads] == [to_ms(run.enqueued_at) for run in first]


async def test_a_delay_holds_for_all(settings: Settings, redis_url: str) -> None:
    """Each waits in ledger and queue until the moment that the call gave."""
    async with connected(settings) as client, Redis.from_url(redis_url) as redis:
        records = await client.enqueue_many(JOB, values(2), delay=timedelta(hours=1))
        for record in records:
            assert record.status is Status.WAITING
            score = await redis.zscore(settings.queue, record.id)
            assert score == to_ms(record.enqueued_at) + 3_600_000


async def test_statements_and_round_trips_do_not_grow_with_the_runs(settings: Settings, redis_url: str) -> None:
    """A batch is one statement and one round trip, and so is one run; another batch is as many again."""
    async with connected(settings) as client, Redis.from_url(redis_url) as redis:
        await client.enqueue_many(JOB, values(1))
        costs = [await cost_of(client, redis, count) for count in (1, MOST_RUNS, MOST_RUNS + 1)]
    assert costs == [(1, 1), (1, 1), (2, 2)]


async def test_large_payloads_go_in_smaller_batches(settings: Settings) -> None:
    """Payloads that are several MiB together do not go to Redis, or to the database, in one piece."""
    async with connected(settings) as client:
        counted = Statements(client)
        await client.enqueue_many("bulk_upsert", [sized(3_000_000)] * 3)
        assert counted.stop() == 3


async def test_a_plain_arq_client_reads_them(settings: Settings, redis_url: str) -> None:
    """With WORKER_WIRE=pickle what is delivered is what arq's own client would have written."""
    wire = settings.model_copy(update={"wire": "pickle"})
    async with connected(wire) as client:
        records = await client.enqueue_many(JOB, values(2), run_ids=["a", "b"])
    pool = await create_pool(RedisSettings.from_dsn(redis_url))
    jobs = await pool.queued_jobs(queue_name=settings.queue)
    await pool.aclose()
    assert [(job.job_id, job.function, job.kwargs) for job in jobs] == [
        (record.id, JOB, record.params) for record in records
    ]


async def test_redis_away_says_what_to_do(settings: Settings) -> None:
    """Where Redis refuses the delivery, the runs stay in the ledger, and the same call makes up for it."""
    async with connected(settings) as client:
        assert client.redis is not None
        await client.redis.set(settings.queue, "not a queue")
        with pytest.raises(UnreachableError, match=r"2 runs are in the ledger, but not in Redis \(such as 'a', 'b'\)"):
            await client.enqueue_many(JOB, values(2), run_ids=["a", "b"])
        assert await ledger_size(client) == 2
        await client.redis.delete(settings.queue)
        await client.enqueue_many(JOB, values(2), run_ids=["a", "b"])
        assert await client.redis.zcard(settings.queue) == 2


async def test_the_same_ids_from_two_clients_at_once(settings: Settings, redis_url: str) -> None:
    """Two clients that enqueue the same ids in opposite orders make each run once, and neither dead-locks."""
    count = 2 * MOST_RUNS
    ids = [f"{number:05}" for number in range(count)]
    async with connected(settings) as one, connected(settings) as other, Redis.from_url(redis_url) as redis:
        forth, back = await asyncio.gather(
            one.enqueue_many(JOB, values(count), run_ids=ids),
            other.enqueue_many(JOB, values(count)[::-1], run_ids=ids[::-1]),
        )
        assert forth == back[::-1]
        assert await redis.zcard(settings.queue) == count


class Later:
    """A clock that is an hour ahead."""

    def now(self) -> datetime:
        """An hour from now."""
        return datetime.now(UTC) + timedelta(hours=1)

    def monotonic_ms(self) -> float:
        """Not asked for."""
        raise NotImplementedError

    def rand(self) -> float:
        """Not asked for."""
        raise NotImplementedError


class Statements:
    """Counts what a client's engine sends, until stopped."""

    def __init__(self, client: Client) -> None:
        self._count = 0
        self._engine = client.database.engine.sync_engine
        event.listen(self._engine, "before_cursor_execute", self._one)

    def _one(self, *_: object) -> None:
        self._count += 1

    def stop(self) -> int:
        """How many there were."""
        event.remove(self._engine, "before_cursor_execute", self._one)
        return self._count


async def cost_of(client: Client, redis: Redis, count: int) -> tuple[int, int]:
    """How many statements, and how many transactions in Redis, so many runs take."""
    counted = Statements(client)
    before = (await redis.info("commandstats"))["cmdstat_exec"]["calls"]
    await client.enqueue_many(JOB, values(count))
    after = (await redis.info("commandstats"))["cmdstat_exec"]["calls"]
    return counted.stop(), after - before


async def test_connections_lost_while_idle_do_not_show(settings: Settings) -> None:
    """A client whose sessions the server has ended enqueues all the same, and each run once."""
    async with connected(settings) as client:
        await client.enqueue(JOB, run_id="before")
        async with client.database.engine.connect() as connection:
            own = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name")
            with pytest.raises(DBAPIError):
                await connection.execute(own, {"name": "heavylift:client"})
        records = await client.enqueue_many(JOB, values(3), run_ids=["a", "b", "c"])
        assert [record.status for record in records] == [Status.QUEUED] * 3
        assert await ledger_size(client) == 4
