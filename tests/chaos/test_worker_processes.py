"""Real worker processes, stopped, killed and stalled in mid-run: each row is done once all the same."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.chaos.conftest import TALLIES, Values
from worker import REGISTRY, Client, open_client
from worker.core.settings import Settings
from worker.main import load_declared

pytestmark = pytest.mark.chaos

RUN = "in-mid-run"
LEASE_S = 1
IN_PROGRESS = f"arq:in-progress:{RUN}"
Processes = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def start_worker(environment: dict[str, str], tmp_path: Path) -> Iterator[Processes]:
    """A function that starts worker processes with small chunks and short leases; none outlives its test."""
    environment |= {
        "WORKER_LEASE_S": str(LEASE_S),
        "WORKER_CHUNK_START_ROWS": "2",
        "WORKER_CHUNK_MIN_ROWS": "2",
        "WORKER_CHUNK_MAX_ROWS": "2",
    }
    started: list[subprocess.Popen[bytes]] = []
    log = (tmp_path / "workers.log").open("ab")

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "worker.cli", "run"]
        started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
    log.close()


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    """A client of this test's servers."""
    load_declared(settings)
    async with open_client(settings, REGISTRY) as opened:
        yield opened


async def until(condition: Callable[[], object], client: Client, done: int) -> None:
    """Wait until the run has done that many rows."""
    while (await client.get(RUN)).done < done:
        assert condition() is None, "a worker ended by itself"
        await asyncio.sleep(0.01)


@contextmanager
def stalled(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """A process that stands still for a while."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


async def test_sigterm_stops_at_a_chunk_and_costs_no_attempt(
    client: Client, start_worker: Processes, values: Values
) -> None:
    """A worker told to stop leaves its run at a cursor, queued; another one goes on from there."""
    await client.enqueue("add_one", {"pause_s": 0.1}, run_id=RUN)
    first = start_worker()
    await until(first.poll, client, 3)
    first.terminate()
    assert await asyncio.to_thread(first.wait, 10) == 0
    left = await client.get(RUN)
    assert (left.status, left.interruptions, left.attempts, left.crashes) == ("queued", 1, 0, 0)
    assert left.cursor is not None
    assert 0 < left.done < TALLIES
    start_worker()
    record = await client.wait(RUN)
    assert (record.status, record.attempts, record.crashes) == ("succeeded", 1, 0)
    assert await values() == [1] * TALLIES


async def test_many_deploys_cost_no_attempt(client: Client, start_worker: Processes, values: Values) -> None:
    """Six SIGTERMs, one more than arq has tries, leave the run without a single attempt."""
    await client.enqueue("add_one", {"pause_s": 0.25}, run_id=RUN)
    for _ in range(6):
        process = start_worker()
        await until(process.poll, client, (await client.get(RUN)).done + 1)
        process.terminate()
        await asyncio.to_thread(process.wait, 10)
    record = await client.get(RUN)
    assert (record.attempts, record.interruptions, record.status) == (0, 6, "queued")
    start_worker()
    assert (await client.wait(RUN)).status == "succeeded"
    assert await values() == [1] * TALLIES


async def test_sigkill_then_the_lease_then_another_worker(
    client: Client, start_worker: Processes, values: Values
) -> None:
    """Killed at several chunks, the run is resumed by itself once the lease has lapsed, and each row is done once."""
    await client.enqueue("add_one", {"pause_s": 0.05}, run_id=RUN)
    for done in (3, 12, 21):
        process = start_worker()
        await until(process.poll, client, done)
        process.kill()
        process.wait()
    start_worker()
    record = await client.wait(RUN)
    assert (record.status, record.crashes, record.attempts) == ("succeeded", 3, 1)
    assert await values() == [1] * TALLIES


@pytest.mark.only_on(
    "postgresql", "mariadb", why="a process that stands still in a transaction keeps SQLite's file locked all the time"
)
async def test_a_worker_stalled_past_its_lease_does_no_harm(
    client: Client, start_worker: Processes, values: Values
) -> None:
    """While one worker stands still another finishes its run; awake again, the first one changes nothing."""
    await client.enqueue("add_one", {"pause_s": 0.1}, run_id=RUN)
    first = start_worker()
    await until(first.poll, client, 6)
    with stalled(first):
        start_worker()
        record = await client.wait(RUN)
    assert record.status == "succeeded"
    first.terminate()
    assert await asyncio.to_thread(first.wait, 15) == 0
    assert await values() == [1] * TALLIES
    assert (await client.get(RUN)).result == TALLIES


@pytest.mark.only_on(
    "sqlite", why="elsewhere nobody has to wait until a stalled worker is awake, as the test above shows"
)
async def test_a_worker_stalled_in_its_transaction_does_no_harm(
    client: Client, start_worker: Processes, values: Values
) -> None:
    """A worker that stands still past its lease holds the others up, and no longer: awake, it or another goes on."""
    await client.enqueue("add_one", {"pause_s": 0.1}, run_id=RUN)
    first = start_worker()
    await until(first.poll, client, 6)
    with stalled(first):
        start_worker()
        await asyncio.sleep(3 * LEASE_S)
    assert (await client.wait(RUN)).status == "succeeded"
    first.terminate()
    assert await asyncio.to_thread(first.wait, 15) == 0
    assert await values() == [1] * TALLIES
    assert (await client.get(RUN)).result == TALLIES


async def test_two_workers_handed_the_same_run(
    client: Client, start_worker: Processes, values: Values, redis_url: str
) -> None:
    """A run delivered to a second worker in mid-run is done once, and the loser leaves the winner's keys alone."""
    await client.enqueue("add_one", {"pause_s": 0.1}, run_id=RUN)
    first, second = start_worker(), start_worker()
    await until(lambda: first.poll() or second.poll(), client, 6)
    async with Redis.from_url(redis_url) as redis:
        await redis.delete(IN_PROGRESS)
        record = await client.wait(RUN)
        assert record.status == "succeeded"
        assert record.fence >= 2
        while await redis.zscore("arq:queue", RUN) is not None:
            await asyncio.sleep(0.01)
    assert await values() == [1] * TALLIES
