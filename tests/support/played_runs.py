"""One run of a scenario on a database, done by workers that may be told to kill themselves.

Owns what it takes: tables and files prepared, the run enqueued in an empty Redis, its workers forked, what it has left
behind read. Refuses to choose when a worker dies, and to judge.
"""

import re
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.support.databases import transaction
from tests.support.forge import Forge
from tests.support.kill_points import KILL, TRACE, KillPoint, read_trace
from tests.support.snapshots import ReadFiles, Snapshot, read_files, take_snapshot
from worker import REGISTRY, Client, load_settings, open_client
from worker.database.tables import PROGRESS
from worker.main import load_declared

RUN = "killed-and-killed"
HELD = re.compile("arq:queue$|arq:(job|in-progress|retry):")
"""The names of what Redis holds of runs that have not ended."""

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
        prepare: fills tables with so many rows, in a transaction of its own, and writes source files into the folder.
        params: the run's parameters for so many rows; files are read from the folder and written below `out` in it.
        rows: how many there are.
        options: run options.
        environment: settings of its workers beyond the usual.
        audit: tables of the ledger that belong to the run's effects; those outside of it all do.
        left_out: by table, the columns that no two runs share: moments, generated numbers.
        read_files: what is compared of the folder `out`; by default every file's name and its contents, unpacked.
    """

    name: str
    job: str
    prepare: Callable[[AsyncConnection, Path, int], Awaitable[None]]
    params: Callable[[Path, int], dict[str, object]]
    rows: int = 600
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
class Play:
    """A scenario in a place.

    Attributes:
        scenario: what runs.
        place: where.
        settings: of its workers, beyond the usual and before the scenario's own.
    """

    scenario: KillScenario
    place: Place
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        """The folder that the run writes to."""
        return self.place.folder / "out"

    @property
    def steps(self) -> list[str]:
        """What the last worker began, in order."""
        return read_trace(self._trace)

    @property
    def _trace(self) -> Path:
        return self.place.folder / "steps"

    async def prepare(self) -> None:
        """Fill the place's database and its folder."""
        async with transaction(self.place.environment["DATABASE_URL"]) as connection:
            await self.scenario.prepare(connection, self.place.folder, self.scenario.rows)

    @asynccontextmanager
    async def client(self, database_url: str) -> AsyncIterator[Client]:
        """A client of a database whose run is enqueued, in a Redis with nothing else; the folder `out` is empty."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        redis_url = self.place.environment["REDIS_URL"]
        settings = load_settings(
            database_url=database_url, redis_url=redis_url, jobs=self.place.environment["WORKER_JOBS"]
        )
        load_declared(settings)
        async with Redis.from_url(redis_url) as redis:
            await redis.flushdb()
        async with open_client(settings, REGISTRY) as client:
            params = self.scenario.params(self.place.folder, self.scenario.rows)
            await client.enqueue(self.scenario.job, params, run_id=RUN, options=self.scenario.options)
            yield client

    async def work(self, client: Client, point: KillPoint | None = None, through: str | None = None) -> bool:
        """Have one worker until the queue is empty, or until it has killed itself.

        Args:
            client: of the run's database.
            point: where it is to kill itself; None for nowhere.
            through: another URL of the same database, by way of a proxy.

        Returns:
            Whether it did. The run can then be delivered again at once, as after the end of the lease.

        Raises:
            AssertionError: it ended in a way that nobody asked for.
        """
        environment = {
            **self.place.environment,
            **QUICK_AND_SMALL,
            **self.settings,
            "WORKER_OUTPUT_DIRS": str(self.out),
            **self.scenario.environment,
            "DATABASE_URL": through or client.database.engine.url.render_as_string(hide_password=False),
            TRACE: str(self._trace),
        }
        if point is not None:
            environment[KILL] = str(point)
        async with self.place.forge.worker(environment, self.place.folder / "workers.log", "--burst") as worker:
            code = await worker.ended()
        if code == 0:
            return False
        assert point is not None, worker.tail()
        assert code == -signal.SIGKILL, worker.tail()
        async with Redis.from_url(self.place.environment["REDIS_URL"]) as redis:
            await redis.delete(f"arq:in-progress:{RUN}")
        return True

    async def left_in_redis(self) -> list[str]:
        """The keys by which Redis would deliver the run again, or keep it from being delivered."""
        async with Redis.from_url(self.place.environment["REDIS_URL"], decode_responses=True) as redis:
            return [name for name in await redis.keys() if HELD.match(name)]

    async def snapshot(self, client: Client) -> Snapshot:
        """What the run has left behind."""
        files = self.scenario.read_files(self.out)
        return await take_snapshot(client, RUN, audit=self.scenario.audit, left_out=self.scenario.left_out, files=files)


async def count_chunks(client: Client) -> int:
    """How many chunks of the run are committed, once a COMMIT that a killed worker has sent has landed or not."""
    async with client.database.engine.connect() as connection:
        # waits for a COMMIT that the server got from a worker before it was killed
        counted = select(PROGRESS.c.chunk).where(PROGRESS.c.run_id == RUN).with_for_update()
        return (await connection.execute(counted)).scalar_one_or_none() or 0
