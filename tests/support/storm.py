"""A workload done twice: by one worker in peace on a copy of the database, then by a fleet that is hit again and again.

Owns both, the moments of the blows (some run is under way at each) and the wait for the end. Refuses to judge what is
left behind.
"""

import asyncio
import re
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from sqlalchemy import func, select

from tests.support.databases import copy_of, transaction
from tests.support.forge import Forge
from tests.support.snapshots import Snapshot
from tests.support.strikes import Scene, Strike
from tests.support.workload import Workload
from worker import REGISTRY, Client, load_settings, open_client
from worker.database.tables import ATTEMPTS, PROGRESS, RUNS
from worker.main import load_declared

LONGEST_S = 240.0
"""How long all runs may take to end, in peace or after the last blow, in seconds."""

KEPT = re.compile("arq:(result:|queue:health-check$)|heavylift:restored:")
"""The names of what Redis holds when there is nothing to do: results, a sign of life, the mark of a sweep."""

MOST_WAIT_S = 0.3
"""How long a blow waits at most, in seconds, once some run is under way."""


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What a storm has left behind.

    Attributes:
        whole: by the undisturbed worker.
        struck: by the others.
        outcomes: how often each outcome of an attempt was written down, with the error where there was one.
        story: each blow, in order.
    """

    whole: Snapshot
    struck: Snapshot
    outcomes: Counter[str]
    story: str


@dataclass(frozen=True, slots=True)
class Storm:
    """A workload in a database and a Redis of its own.

    Attributes:
        workload: what there is to do.
        forge: of the undisturbed worker.
        environment: of a worker for the database, which nobody else is connected to yet, and the Redis.
        log: of the undisturbed worker.
    """

    workload: Workload
    forge: Forge
    environment: Mapping[str, str]
    log: Path

    async def prepare(self) -> None:
        """Fill the database and the folder."""
        async with transaction(self.environment["DATABASE_URL"]) as connection:
            await self.workload.prepare(connection)

    async def in_peace(self) -> Snapshot:
        """Have one worker do everything on a copy of the database, and remove its files."""
        async with copy_of(self.environment["DATABASE_URL"]) as copy, self.client(copy) as client:
            for wave in range(self.workload.waves):
                await self.workload.enqueue(client, wave)
            environment = {**self.environment, "DATABASE_URL": copy}
            async with self.forge.worker(environment, self.log, "--burst") as worker:
                assert await worker.ended(within_s=LONGEST_S) == 0, worker.tail()
            whole = await self.workload.snapshot(client)
        shutil.rmtree(self.workload.out)
        self.workload.out.mkdir()
        async with Redis.from_url(self.environment["REDIS_URL"]) as redis:
            await redis.flushdb()
        return whole

    async def rage(self, scene: Scene, strike: Strike, blows: int, whole: Snapshot) -> Aftermath:
        """Have the fleet do everything, with so many blows a wave of runs.

        Raises:
            AssertionError: a worker has ended by itself, or something is stuck.
        """
        told: list[str] = []
        async with self.client(self.environment["DATABASE_URL"]) as client:
            for wave in range(self.workload.waves):
                await self.workload.enqueue(client, wave)
                for _ in range(blows):
                    await _under_way(client)
                    await asyncio.sleep(scene.rand.uniform(0, MOST_WAIT_S))
                    told.append(await strike(scene))
                    # whoever asks and looks is not what is tried here
                    await client.database.reconnect()
                    scene.fleet.check()
            story = "\n".join(told)
            await self._end(client, scene, story)
            return Aftermath(whole, await self.workload.snapshot(client), await _outcomes(client), story)

    @asynccontextmanager
    async def client(self, database_url: str) -> AsyncIterator[Client]:
        """A client of a database, and of the Redis."""
        settings = load_settings(
            database_url=database_url, redis_url=self.environment["REDIS_URL"], jobs=self.environment["WORKER_JOBS"]
        )
        load_declared(settings)
        async with open_client(settings, REGISTRY) as client:
            yield client

    async def _end(self, client: Client, scene: Scene, story: str) -> None:
        try:
            async with asyncio.timeout(LONGEST_S):
                while left := await self._unfinished(client):
                    await asyncio.sleep(0.1)
                # a run's last transaction comes before Redis hears of its end
                while left := await self._held(client):
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"stuck after {LONGEST_S:g} s: {left}\n{story}") from None
        scene.fleet.check()

    async def _unfinished(self, client: Client) -> list[str]:
        found = [await client.get(run_id) for run_id in self.workload.run_ids]
        return [f"{run.id} {run.status} {run.waiting_for or ''}" for run in found if not run.status.finished]

    async def _held(self, client: Client) -> list[str]:
        assert client.redis is not None
        names = [name.decode() for name in await client.redis.keys()]
        return [name for name in names if not KEPT.match(name)]


async def _under_way(client: Client) -> None:
    """Wait until a run is under way, or none is left: a long blow may outlast all runs of a wave."""
    working = select(func.count()).where(PROGRESS.c.open)
    left = select(func.count()).where(RUNS.c.finished_at.is_(None))
    async with client.database.reading() as connection:
        while not (await connection.execute(working)).scalar_one():
            if not (await connection.execute(left)).scalar_one():
                return
            await connection.rollback()
            await asyncio.sleep(0.005)


async def _outcomes(client: Client) -> Counter[str]:
    async with client.database.reading() as connection:
        found = await connection.execute(select(ATTEMPTS.c.outcome, ATTEMPTS.c.error))
        return Counter(
            outcome if error is None else f"{outcome} after {error['type']} {error['sqlstate']}"
            for outcome, error in found
        )
