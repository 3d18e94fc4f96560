"""How soon a dead worker's run goes on, how often it may be interrupted, and when it is given up."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.chaos.conftest import TALLIES, Values
from tests.support.chaos_size import sized
from tests.support.filling import fill_tallies
from tests.support.forge import Forge, ForgedWorker
from worker import REGISTRY, Client, open_client
from worker.core.settings import Settings
from worker.database.tables import ATTEMPTS
from worker.main import load_declared

pytestmark = [pytest.mark.storm, pytest.mark.timeout(600)]

RUN = "in-mid-run"
LEASE_S = sized(3, 15)
"""Of a worker that dies; the longer one is what a worker has by default."""

MOST_BEYOND_S = 2
"""How long after the lease's end a run may stand still, in seconds."""

SIGTERMS = 20
CRASHES = 10

StartWorker = Callable[..., AbstractAsyncContextManager[ForgedWorker]]


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    """A client of this test's servers."""
    load_declared(settings)
    async with open_client(settings, REGISTRY) as opened:
        yield opened


@pytest.fixture
def worker(forge: Forge, environment: dict[str, str], tmp_path: Path) -> StartWorker:
    """Makes workers with chunks of one row; settings by name."""
    small = dict.fromkeys(("WORKER_CHUNK_START_ROWS", "WORKER_CHUNK_MIN_ROWS", "WORKER_CHUNK_MAX_ROWS"), "1")

    def make(**changed: str) -> AbstractAsyncContextManager[ForgedWorker]:
        return forge.worker({**environment, **small, "WORKER_POLL_S": "0.5", **changed}, tmp_path / "workers.log")

    return make


async def until_done(client: Client, rows: int) -> None:
    """Wait until the run has done so many rows."""
    while (await client.get(RUN)).done < rows:
        await asyncio.sleep(0.01)


async def last_claim(client: Client) -> datetime:
    """When the attempt began that ended last."""
    claims = select(ATTEMPTS.c.started_at).where(ATTEMPTS.c.run_id == RUN).order_by(ATTEMPTS.c.fence.desc()).limit(1)
    async with client.database.reading() as connection:
        found: datetime = (await connection.execute(claims)).scalar_one()
        return found


STOPPED = pytest.mark.only_on(
    "postgresql", "mariadb", why="a process that stands still in a transaction keeps SQLite's file locked all the time"
)


@pytest.mark.parametrize("blow", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=STOPPED)], ids=attrgetter("name"))
async def test_a_run_of_hours_goes_on_after_the_lease(
    client: Client, worker: StartWorker, values: Values, blow: signal.Signals
) -> None:
    """Of a job that may take six hours, a run whose worker died or stands still is claimed within the lease and 2 s."""
    lease = {"WORKER_LEASE_S": str(LEASE_S)}
    async with worker(**lease) as first, worker(**lease) as second:
        await client.enqueue("add_one_for_hours", {"pause_s": 0.05}, run_id=RUN)
        await until_done(client, 3)
        holder = (await client.get(RUN)).worker
        assert holder is not None
        dying, other = (first, second) if holder.endswith(f":{first.pid}") else (second, first)
        dying.send_signal(blow)
        hit = datetime.now(UTC)
        record = await client.wait(RUN)
        assert (record.status, record.attempts, record.crashes) == ("succeeded", 1, 1)
        assert record.worker is not None
        assert record.worker.endswith(f":{other.pid}")
        stood_still = await last_claim(client) - hit
        print(f"claimed {stood_still.total_seconds():.2f} s after {blow.name}, with a lease of {LEASE_S} s")
        # not at once either: the lease is what says that a worker lives
        assert timedelta(seconds=LEASE_S / 2) <= stood_still <= timedelta(seconds=LEASE_S + MOST_BEYOND_S)
    assert await values() == [1] * TALLIES


async def test_twenty_deploys_cost_no_attempt(client: Client, worker: StartWorker, values: Values) -> None:
    """A run that meets twenty SIGTERMs has twenty interruptions and no attempt, and does each row once."""
    async with client.database.engine.begin() as connection:
        await fill_tallies(connection, 200, TALLIES + 1)
    await client.enqueue("add_one", {"pause_s": 0.05}, run_id=RUN)
    for number in range(SIGTERMS):
        async with worker() as process:
            await until_done(client, (await client.get(RUN)).done + 1)
            process.send_signal(signal.SIGTERM)
            assert await process.ended() == 0, process.tail()
        record = await client.get(RUN)
        assert (record.status, record.interruptions, record.attempts) == ("queued", number + 1, 0)
    async with worker():
        record = await client.wait(RUN)
    assert (record.status, record.interruptions, record.attempts, record.crashes) == ("succeeded", SIGTERMS, 1, 0)
    assert await values() == [1] * 200


async def test_a_run_that_kills_its_worker_each_time_is_given_up(client: Client, worker: StartWorker) -> None:
    """Its workers are started again and again: after ten crashes it fails as WorkerCrashed, and no other dies."""
    await client.enqueue("kill_worker", run_id=RUN)
    over = asyncio.ensure_future(client.wait(RUN))
    deaths = 0
    while not over.done():
        async with worker(WORKER_LEASE_S="1") as process:
            death = asyncio.ensure_future(process.ended())
            await asyncio.wait({over, death}, return_when=asyncio.FIRST_COMPLETED)
            if over.done():
                process.send_signal(signal.SIGTERM)
                assert await death == 0, process.tail()
            else:
                assert await death == -signal.SIGKILL, process.tail()
                deaths += 1
    record = await over
    assert (record.status, record.crashes, deaths) == ("failed", CRASHES, CRASHES)
    assert record.error is not None
    assert record.error.type == "WorkerCrashed"


async def test_a_run_beside_one_that_kills_its_worker_ends_well(
    client: Client, worker: StartWorker, values: Values
) -> None:
    """Whichever of two suspects begins first is left to chance, so that the innocent one gets to commit its chunks."""
    await client.enqueue("kill_worker", run_id="guilty")
    await client.enqueue("add_one", run_id=RUN)
    over = asyncio.ensure_future(client.wait(RUN))
    while not over.done():
        async with worker(WORKER_LEASE_S="1", WORKER_MAX_CRASHES="100") as process:
            death = asyncio.ensure_future(process.ended())
            await asyncio.wait({over, death}, return_when=asyncio.FIRST_COMPLETED)
            if not death.done():
                process.send_signal(signal.SIGKILL)
            await death
    record = await over
    assert record.status == "succeeded"
    assert record.crashes > 0
    assert await values() == [1] * len(await values())
