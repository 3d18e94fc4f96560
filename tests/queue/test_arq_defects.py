"""The eighteen defects of arq 0.28, each as a test that fails on arq's own worker and passes on ours.

`HEAVYLIFT_QUEUE_WORKER=arq.worker.Worker pytest tests/queue/test_arq_defects.py` shows the former.
"""

import asyncio
import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from arq import cron, func
from arq.connections import ArqRedis
from arq.constants import abort_jobs_ss, in_progress_key_prefix, job_key_prefix, result_key_prefix
from arq.worker import Retry, Worker

from tests.conftest import ROOT
from tests.support.cron_ticks import ticks
from tests.support.lucky_jobs import PLAIN, STARTS
from tests.support.queue_keys import (
    ID,
    QUEUE,
    cut_connections,
    ended,
    execute,
    is_empty,
    is_queued,
    is_unclaimed,
    now_ms,
    plain_client,
    result_of,
    tries,
)
from tests.support.queue_workers import LEASE_S, NOTHING, claim_s, clean_up, is_arqs, make_worker, running, until
from worker.core.settings import Settings
from worker.embedded import RedisProcess
from worker.main import run_worker

# arq 0.28 closes its pool by a name that redis-py 5 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")


@pytest.mark.parametrize("failure", ["payload expired", "tries used up"])
async def test_e1_a_result_kept_forever_of_a_job_that_never_started(
    client: ArqRedis, redis_url: str, failure: str
) -> None:
    """With results kept forever, a job that fails before it starts leaves its error, and the worker goes on."""
    await client.enqueue_job("nothing", _job_id=ID, _job_try=6)
    if failure == "payload expired":
        await client.delete(job_key_prefix + ID)
    async with running(make_worker(redis_url, [NOTHING], keep_result_forever=True)) as work:
        await work.until(ended(client), "its failure is not on record")
        await client.enqueue_job("nothing", _job_id="next")
        await work.until(ended(client, "next"), "the next job is not done")
    assert not (await result_of(client)).success
    assert await client.pttl(result_key_prefix + ID) == -1


@pytest.mark.parametrize("hook", ["on_job_start", "on_job_end", "after_job_end"])
async def test_e2_a_hook_that_fails(
    client: ArqRedis, redis_url: str, hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A hook's exception is logged; the worker goes on, its job ends, and no claim is left behind."""

    async def fail(ctx: dict[str, Any]) -> None:
        raise ValueError(f"scripted to fail in {hook} of {ctx['job_id']}")

    with caplog.at_level(logging.WARNING):
        hooks: dict[str, Any] = {hook: fail}
        async with running(make_worker(redis_url, [NOTHING], **hooks)) as work:
            for job_id in (ID, "next"):
                await client.enqueue_job("nothing", _job_id=job_id)
                await work.until(ended(client, job_id), f"job {job_id} has not ended")
            await work.until(lambda: is_unclaimed(client), "a claim is left behind")
    assert f"scripted to fail in {hook} of {ID}" in caplog.text


async def test_e3_abort_of_deferred_jobs(client: ArqRedis, redis_url: str) -> None:
    """Jobs that are aborted before they are due never run, and who aborts them is told so."""
    ran: list[str] = []

    async def note(ctx: dict[str, Any]) -> None:
        ran.append(ctx["job_id"])

    async with running(make_worker(redis_url, [func(note, name="note")], allow_abort_jobs=False)) as work:
        jobs = [await client.enqueue_job("note", _defer_by=3600) for _ in range(20)]
        # abort() makes the job due, and only then says that it is to be aborted
        aborting = asyncio.gather(*(job.abort(timeout=5, poll_delay=0.02) for job in jobs if job is not None))
        await work.until(aborting.done, "abort() does not come back", within_s=10)
    assert ran == [], "some ran at once instead of in an hour"
    assert aborting.result() == [True] * 20


async def test_e4_jobs_that_run_elsewhere_starve_nobody(client: ArqRedis, redis_url: str) -> None:
    """Behind 300 older jobs that other workers hold, an idle worker finds those that are free."""
    async with client.pipeline() as pipe:
        for number in range(300):
            pipe.zadd(QUEUE, {f"held-{number}": number + 1})
            pipe.set(in_progress_key_prefix + f"held-{number}", b"1", px=60_000)
        await pipe.execute()
    free = [f"free-{number}" for number in range(5)]
    for job_id in free:
        await client.enqueue_job("nothing", _job_id=job_id)
    async with running(make_worker(redis_url, [NOTHING])) as work:
        for job_id in free:
            await work.until(ended(client, job_id), f"job {job_id} is not done")
    assert await client.zcard(QUEUE) == 300


async def test_e5_a_job_without_a_timeout_is_started_once(client: ArqRedis, redis_url: str) -> None:
    """A job that may take for ever keeps its claim as long as it runs, whoever looks for work."""
    starts: list[str] = []
    again, leave = asyncio.Event(), asyncio.Event()

    async def hold(ctx: dict[str, Any]) -> None:
        starts.append(ctx["job_id"])
        if len(starts) > 1:
            again.set()
        await leave.wait()

    workers = [make_worker(redis_url, [func(hold, name="hold")], job_timeout=None) for _ in range(2)]
    await client.enqueue_job("hold", _job_id=ID)
    async with running(workers[0]) as one, running(workers[1]) as two:
        # nothing tells that something will never happen: so wait longer than a claim lives that is not renewed
        waiting = asyncio.create_task(asyncio.wait_for(again.wait(), claim_s(workers[0]) * 1.3 + 1))
        await asyncio.wait({waiting, one.main, two.main}, return_when=asyncio.FIRST_COMPLETED)
        assert starts == [ID], "it was started again while it ran"
        assert isinstance(waiting.exception(), TimeoutError)
        leave.set()
        await one.until(ended(client), "it has not ended")


async def test_e6_the_error_behind_the_last_retry_is_kept(client: ArqRedis, redis_url: str) -> None:
    """A job that gives up after its retries leaves the error that they were for."""

    async def lose(job_id: str) -> None:
        raise ConnectionResetError(f"scripted to lose the connection of {job_id}")

    async def insist(ctx: dict[str, Any]) -> None:
        try:
            await lose(ctx["job_id"])
        except ConnectionResetError as error:
            raise Retry from error

    await client.enqueue_job("insist", _job_id=ID)
    async with running(make_worker(redis_url, [func(insist, name="insist", max_tries=2)])) as work:
        await work.until(ended(client), "it has not ended")
    found = await result_of(client)
    assert not found.success
    assert f"scripted to lose the connection of {ID}" in str(found.result)


async def work_off(settings: Settings, client: ArqRedis) -> None:
    """Empty the queue: on arq the plain function `third_time_lucky`, on ours the job of that name."""
    if not is_arqs():
        await run_worker(settings, burst=True)
        return
    assert settings.redis_url is not None
    async with running(make_worker(settings.redis_url.get_secret_value(), [PLAIN])) as work:
        await work.until(lambda: is_empty(client), "the queue is not empty")


@pytest.fixture
def lucky(settings: Settings) -> Settings:
    """Settings of a worker that knows the job that succeeds at its third start."""
    STARTS.clear()
    return settings.model_copy(update={"jobs": ("tests.support.lucky_jobs",)})


async def test_e7_an_ordinary_error_is_retried_where_that_can_help(client: ArqRedis, lucky: Settings) -> None:
    """A lost connection is no reason to give up: the job succeeds at its third start."""
    await client.enqueue_job("third_time_lucky", trouble="connection", _job_id=ID)
    await work_off(lucky, client)
    found = await result_of(client)
    assert (found.success, found.result) == (True, 3), found.result


def other_month() -> int:
    """A month in which a cron does not come due while a test runs."""
    return (datetime.now(UTC).month + 5) % 12 + 1


async def test_e8_an_interrupted_cron_goes_on_elsewhere(client: ArqRedis, redis_url: str) -> None:
    """A cron that a deploy interrupts is run again by the next worker, at once."""
    started, leave = asyncio.Event(), asyncio.Event()
    finished: list[str] = []

    async def tick(ctx: dict[str, Any]) -> None:
        started.set()
        await leave.wait()
        finished.append(ctx["job_id"])

    def deployed() -> Worker:
        return make_worker(redis_url, cron_jobs=[cron(tick, name="tick", month=other_month())])

    await client.enqueue_job("tick", _job_id=ID)
    async with running(deployed()) as first:
        await first.until(started.is_set, "it was not started")
        first.worker.handle_sig(signal.SIGTERM)
        await asyncio.wait({first.main, *first.worker.tasks.values()})
    leave.set()
    async with running(deployed()) as second:
        await second.until(lambda: is_empty(client), "it waits for its claim of a minute to lapse")
    assert finished == [ID], "it was failed without another run"


@pytest.mark.parametrize("age_s", [3, 86_400])
async def test_e9_a_stale_abort_kills_no_later_job(client: ArqRedis, redis_url: str, age_s: int) -> None:
    """An abort that was asked for before a job was enqueued is not meant for that job, and old ones are swept."""
    asked = {"long-gone": now_ms() - 86_400_000, ID: now_ms() - age_s * 1000}
    await client.zadd(abort_jobs_ss, asked)
    await client.enqueue_job("nothing", _job_id=ID)
    async with running(make_worker(redis_url, [NOTHING], allow_abort_jobs=True)) as work:
        await work.until(ended(client), "it has not ended")
        assert (await result_of(client)).success, "it was aborted by what was asked for before it was there"
        await work.until(lambda: is_swept(client), "the old request is still there")


async def is_swept(client: ArqRedis) -> bool:
    """Whether the day-old request to abort is forgotten."""
    return await client.zscore(abort_jobs_ss, "long-gone") is None


async def test_e10_a_unique_cron_runs_once_though_one_worker_is_late(
    client: ArqRedis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that comes to a tick after another has run it does not run it again."""
    # arq keeps a cron's claim for a minute after its end: the second run waits for that, and is not prevented by it
    monkeypatch.setattr("arq.worker.keep_cronjob_progress", 0.2)
    ran: list[str] = []
    moment = datetime.now(UTC)

    async def tick(ctx: dict[str, Any]) -> None:
        ran.append(ctx["job_id"])

    def at_the_tick() -> Worker:
        planned = cron(tick, name="tick", month=other_month())
        planned.next_run = moment
        return make_worker(redis_url, cron_jobs=[planned], timezone=UTC)

    async with running(at_the_tick()) as prompt:
        await prompt.until(lambda: ran, "the tick was not run")
        await prompt.until(lambda: is_empty(client), "the tick has not ended")
    late = at_the_tick()
    async with running(late) as work:
        await work.until(lambda: late.cron_jobs[0].next_run != moment, "the late worker does not come to the tick")
        await work.until(lambda: is_empty(client), "the late worker's tick has not ended")
    assert len(ran) == 1


async def test_e11_redis_connections_are_cut(client: ArqRedis, redis_url: str) -> None:
    """A worker whose connections are cut in the middle of a job lives on, and the job is done once."""
    starts: list[str] = []
    started, leave = asyncio.Event(), asyncio.Event()

    async def hold(ctx: dict[str, Any]) -> str:
        starts.append(ctx["job_id"])
        started.set()
        await leave.wait()
        return "held"

    await client.enqueue_job("hold", _job_id=ID)
    async with running(make_worker(redis_url, [func(hold, name="hold"), NOTHING], poll_delay=0.001)) as work:
        await work.until(started.is_set, "it was not started")
        await cut_connections(client)
        await client.enqueue_job("nothing", _job_id="next")
        await work.until(ended(client, "next"), "the next job is not done")
        leave.set()
        await cut_connections(client)
        await work.until(ended(client), "its end is not on record")
    assert (await result_of(client)).result == "held"
    assert starts == [ID]


async def test_e12_a_backlog_is_not_bounded_by_the_polls(client: ArqRedis, redis_url: str) -> None:
    """Four hundred small jobs are done in one go by a worker that looks every half minute."""
    jobs = 400
    for number in range(jobs):
        await client.enqueue_job("nothing", _job_id=str(number))
    worker = make_worker(redis_url, [NOTHING], poll_delay=30)
    async with running(worker) as work:
        await work.until(
            lambda: worker.jobs_complete == jobs, f"{jobs} jobs are not done before the second poll", within_s=10
        )
        await work.until(lambda: is_empty(client), "the queue is not empty")


async def test_e13_a_cron_in_the_hour_that_spring_leaves_out(client: ArqRedis, redis_url: str) -> None:
    """A time that does not exist on a day is run at the moment of the jump: 03:00 in New York's summer time."""
    assert await ticks(client, redis_url, datetime(2031, 3, 8, 5, tzinfo=UTC), hour=2, minute=30) == [
        datetime(2031, 3, 8, 7, 30, tzinfo=UTC),
        datetime(2031, 3, 9, 7, 0, tzinfo=UTC),
        datetime(2031, 3, 10, 6, 30, tzinfo=UTC),
    ]


@pytest.fixture
async def own_redis(tmp_path: Path) -> AsyncIterator[RedisProcess]:
    """A Redis that a test may stop; what was acknowledged is on disk."""
    with RedisProcess(tmp_path / "redis", options={"appendfsync": "always"}) as server:
        yield server


@pytest.mark.chaos
async def test_e14_redis_restarted_during_a_job(own_redis: RedisProcess) -> None:
    """While Redis is away the worker stays up; the job is done once, and its end is on record when Redis is back."""
    starts: list[str] = []
    started, leave, shut_down = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def hold(ctx: dict[str, Any]) -> str:
        starts.append(ctx["job_id"])
        started.set()
        await leave.wait()
        return "held"

    async def note_shut_down(ctx: dict[str, Any]) -> None:
        del ctx
        shut_down.set()

    async with plain_client(own_redis.url) as client:
        await client.enqueue_job("hold", _job_id=ID)
    worker = make_worker(own_redis.url, [func(hold, name="hold")], on_shutdown=note_shut_down)
    async with running(worker) as work:
        await work.until(started.is_set, "it was not started")
        await asyncio.to_thread(own_redis.stop)
        leave.set()
        await work.until(lambda: ID not in worker.job_tasks, "the job goes on")
        # long enough for the worker to look for work, and to put the job's end on record, in vain
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(work.main), 2 * LEASE_S)
        await asyncio.to_thread(own_redis.start)
        async with plain_client(own_redis.url) as client:
            await work.until(ended(client), "its end is not on record", within_s=20)
            assert (await result_of(client)).result == "held"
            assert await is_empty(client)
    assert starts == [ID]
    assert shut_down.is_set()


async def test_e15_a_signal_during_the_start_hook(client: ArqRedis, redis_url: str) -> None:
    """A worker stopped before its job began leaves no claim and spends no try, and its shutdown hook runs."""
    begun, shut_down = asyncio.Event(), asyncio.Event()

    async def linger(ctx: dict[str, Any]) -> None:
        del ctx
        begun.set()
        await asyncio.Event().wait()

    async def note_shut_down(ctx: dict[str, Any]) -> None:
        del ctx
        shut_down.set()

    await client.enqueue_job("nothing", _job_id=ID)
    worker = make_worker(redis_url, [NOTHING], on_job_start=linger, on_shutdown=note_shut_down)
    main = asyncio.create_task(worker.async_run())
    await until(begun.is_set, "the hook was not called")
    worker.handle_sig(signal.SIGTERM)
    await asyncio.gather(main, return_exceptions=True)
    (closed,) = await asyncio.gather(worker.close(), return_exceptions=True)
    await clean_up(worker)
    assert shut_down.is_set(), f"the shutdown hook did not run: close() raised {closed!r}"
    assert closed is None
    assert await is_unclaimed(client)
    assert await tries(client) == 0
    assert await is_queued(client)


@contextmanager
def worker_process(redis_url: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with one worker, killed at the end of the block if it still lives."""
    command = [sys.executable, "-m", "tests.support.queue_process", redis_url]
    with log.open("ab") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def starts_in_processes(client: ArqRedis) -> int:
    """How often worker processes started a job."""
    return int(await execute(client, "LLEN starts"))


@pytest.mark.chaos
async def test_e16_many_deploys_fail_no_job(client: ArqRedis, redis_url: str, tmp_path: Path) -> None:
    """Six SIGTERMs to one job's workers, one more than a job has tries, cost it nothing."""
    log = tmp_path / "workers.log"
    await client.enqueue_job("wait_for_leave", _job_id=ID)
    for number in range(6):
        with worker_process(redis_url, log) as process:

            async def started_again(before: int = number) -> bool:
                found = await ended(client)()
                assert found is None, f"failed by {before} deploys: {found.result!r}"
                assert process.poll() is None, log.read_text()
                return await starts_in_processes(client) > before

            await until(started_again, "it was not started again", within_s=15)
            process.terminate()
            await asyncio.to_thread(process.wait, 10)
    assert await tries(client) == 0
    await client.set("leave", 1)
    with worker_process(redis_url, log):
        await until(ended(client), "it has not ended", within_s=15)
    found = await result_of(client)
    assert (found.success, found.result) == (True, "left"), found.result


async def test_e17_a_timeout_is_retried(client: ArqRedis, lucky: Settings) -> None:
    """A job that hung past its timeout, twice, succeeds at its third start."""
    await client.enqueue_job("third_time_lucky", trouble="hang", _job_id=ID)
    await work_off(lucky, client)
    found = await result_of(client)
    assert (found.success, found.result) == (True, 3), repr(found.result)


@pytest.mark.chaos
async def test_e18_a_killed_workers_job_goes_on_after_one_lease(
    client: ArqRedis, redis_url: str, tmp_path: Path
) -> None:
    """After kill -9 another worker starts the job again within a lease, though a job beside it may take six hours."""
    await client.enqueue_job("wait_for_leave", _job_id=ID)
    log = tmp_path / "workers.log"
    with worker_process(redis_url, log) as killed:

        async def started() -> bool:
            assert killed.poll() is None, log.read_text()
            return await starts_in_processes(client) == 1

        await until(started, "it was not started", within_s=15)
    assert await client.pttl(in_progress_key_prefix + ID) <= LEASE_S * 1000
    with worker_process(redis_url, log):

        async def started_again() -> bool:
            return await starts_in_processes(client) == 2

        await until(started_again, "it was not started again", within_s=15)
        await client.set("leave", 1)
        await until(ended(client), "it has not ended")
