"""A run whose workers are killed again and again, beside an uninterrupted one on a copy of the same database.

Owns both runs and the story of the kills. Refuses to judge: whether the two have left the same behind is for a test to
assert, with the story as its message.
"""

import random
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from tests.support.databases import copy_of
from tests.support.forge import Forge, ForgedWorker
from tests.support.kill_plan import KillPlan, RunShape
from tests.support.kill_points import KILL, TRACE, KillPoint, read_trace
from tests.support.snapshots import ReadFiles, Snapshot, read_files, take_snapshot
from worker import REGISTRY, Client, load_settings, open_client
from worker.database.tables import PROGRESS
from worker.main import load_declared

RUN = "killed-and-killed"
QUICK_AND_SMALL = {
    "WORKER_CHUNK_START_ROWS": "10",
    "WORKER_CHUNK_MIN_ROWS": "10",
    "WORKER_CHUNK_MAX_ROWS": "10",
    "WORKER_POLL_S": "0.01",
    "WORKER_LEASE_S": "2",
    "WORKER_MAX_CRASHES": "1000",
}
"""Settings of the workers, unless a scenario has its own: chunks are cut alike, and no number of kills is too many."""


@dataclass(frozen=True, slots=True)
class KillScenario:
    """A run to be killed, and what counts of its effects.

    Attributes:
        name: of the scenario.
        job: the job's name.
        prepare: fills tables, in a transaction of its own, and writes source files into the folder.
        params: the run's parameters; files are read from the folder and written below `out` in it.
        options: run options.
        environment: settings of its workers beyond the usual.
        audit: tables of the ledger that belong to the run's effects; those outside of it all do.
        left_out: by table, the columns that no two runs share: moments, generated numbers.
        read_files: what is compared of the folder `out`; by default every file's name and its contents, unpacked.
    """

    name: str
    job: str
    prepare: Callable[[AsyncConnection, Path], Awaitable[None]]
    params: Callable[[Path], dict[str, object]]
    options: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    audit: tuple[str, ...] = ()
    left_out: Mapping[str, frozenset[str]] = field(default_factory=dict)
    read_files: ReadFiles = read_files


@dataclass(frozen=True, slots=True)
class Place:
    """Where scenarios are played: one test's own.

    Attributes:
        forge: of workers.
        environment: of a worker for this test's database, which nobody else is connected to, and its Redis.
        folder: for files.
    """

    forge: Forge
    environment: Mapping[str, str]
    folder: Path


@dataclass(frozen=True, slots=True)
class Comparison:
    """What both runs have left behind.

    Attributes:
        whole: of the uninterrupted run.
        killed: of the other.
        story: the seed, and each kill with the step at which it came; for the message of a failure.
    """

    whole: Snapshot
    killed: Snapshot
    story: str


async def compare_killed(scenario: KillScenario, place: Place, seed: str, kills: int) -> Comparison:
    """Play a scenario twice: without any kill on a copy of the database, then with many on the database itself.

    Args:
        scenario: what runs.
        place: where.
        seed: of the kill points.
        kills: how many at least.

    Raises:
        AssertionError: a worker ended in a way that nobody asked for, or the run is too short for so many kills.
    """
    play = _Play(scenario, place)
    await play.prepare()
    async with copy_of(place.environment["DATABASE_URL"]) as copy, play.client(copy) as client:
        shape = await play.run_whole(client)
        whole = await play.snapshot(client)
    shutil.rmtree(play.out)
    async with play.client(place.environment["DATABASE_URL"]) as client:
        plan = KillPlan(shape, kills, random.Random(seed))
        told = await play.run_killed(client, plan)
        story = "\n".join([f"HEAVYLIFT_SEED={seed} HEAVYLIFT_KILLS={kills} gave these kills:", *told])
        assert len(told) >= kills, f"{scenario.name} has too few steps for {kills} kills: give it more rows. {story}"
        return Comparison(whole, await play.snapshot(client), story)


@dataclass(frozen=True, slots=True)
class _Play:
    scenario: KillScenario
    place: Place

    @property
    def out(self) -> Path:
        return self.place.folder / "out"

    @property
    def trace(self) -> Path:
        return self.place.folder / "steps"

    async def prepare(self) -> None:
        engine = create_async_engine(self.place.environment["DATABASE_URL"])
        async with engine.begin() as connection:
            await self.scenario.prepare(connection, self.place.folder)
        await engine.dispose()

    @asynccontextmanager
    async def client(self, database_url: str) -> AsyncIterator[Client]:
        """A client of a database whose run is enqueued, in a Redis that holds nothing else."""
        self.out.mkdir()
        redis_url = self.place.environment["REDIS_URL"]
        settings = load_settings(
            database_url=database_url, redis_url=redis_url, jobs=self.place.environment["WORKER_JOBS"]
        )
        load_declared(settings)
        async with Redis.from_url(redis_url) as redis:
            await redis.flushdb()
        async with open_client(settings, REGISTRY) as client:
            params = self.scenario.params(self.place.folder)
            await client.enqueue(self.scenario.job, params, run_id=RUN, options=self.scenario.options)
            yield client

    async def run_whole(self, client: Client) -> RunShape:
        async with self._worker(client, None) as worker:
            assert await worker.ended() == 0, worker.tail()
        return RunShape.of(read_trace(self.trace), await _chunks(client))

    async def run_killed(self, client: Client, plan: KillPlan) -> list[str]:
        """Start one worker after the other until the queue is empty; tells of each kill."""
        told: list[str] = []
        async with Redis.from_url(self.place.environment["REDIS_URL"]) as redis:
            while True:
                chunks = await _chunks(client)
                point = plan.next_point(len(told), chunks)
                async with self._worker(client, point) as worker:
                    code = await worker.ended()
                if code == 0:
                    return told
                assert code == -signal.SIGKILL, worker.tail()
                told.append(f"{len(told) + 1}. at {chunks} chunks, {point} {read_trace(self.trace)[-1]}")
                # delivered again at once, as after the end of the lease
                await redis.delete(f"arq:in-progress:{RUN}")

    def _worker(self, client: Client, point: KillPoint | None) -> AbstractAsyncContextManager[ForgedWorker]:
        environment = {
            **self.place.environment,
            **QUICK_AND_SMALL,
            "WORKER_OUTPUT_DIRS": str(self.out),
            **self.scenario.environment,
            "DATABASE_URL": client.database.engine.url.render_as_string(hide_password=False),
            TRACE: str(self.trace),
        }
        if point is not None:
            environment[KILL] = str(point)
        return self.place.forge.worker(environment, self.place.folder / "workers.log", "--burst")

    async def snapshot(self, client: Client) -> Snapshot:
        files = self.scenario.read_files(self.out)
        return await take_snapshot(client, RUN, audit=self.scenario.audit, left_out=self.scenario.left_out, files=files)


async def _chunks(client: Client) -> int:
    async with client.database.engine.connect() as connection:
        # waits for a COMMIT that the server got from a worker before it was killed
        counted = select(PROGRESS.c.chunk).where(PROGRESS.c.run_id == RUN).with_for_update()
        return (await connection.execute(counted)).scalar_one_or_none() or 0
