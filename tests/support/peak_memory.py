"""How much memory a worker ever had for a run of so many rows.

Owns the measuring: a database, a Redis, a folder and a process of its own for each. Refuses to judge, and works where
/proc says what a process had at most: on Linux.
"""

import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from tests.support.databases import copy_of
from tests.support.worker_process import worker_process
from worker import REGISTRY, load_settings, open_client
from worker.main import load_declared


@dataclass(frozen=True, slots=True)
class MemoryCase:
    """A run whose memory must not grow with its rows.

    Attributes:
        name: of the case.
        job: the job's name.
        prepare: makes that many rows, in the tables (let the database do it: `generate_series`) or in the folder.
        params: the run's parameters; files are read from the folder and written below `out` in it.
        few: the rows to compare with.
        many: the rows.
        options: run options.
        environment: settings of the worker beyond the usual.
    """

    name: str
    job: str
    prepare: Callable[[AsyncConnection, Path, int], Awaitable[None]]
    params: Callable[[Path], dict[str, object]]
    few: int = 100_000
    many: int = 1_000_000
    options: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


async def peak_memory_of(case: MemoryCase, rows: int, environment: Mapping[str, str], folder: Path) -> int:
    """The most memory, in KiB, that a worker ever had that did a run from its start to its end.

    Args:
        case: what runs.
        rows: how many there are.
        environment: of a worker for a database that nobody is connected to, which is copied, and a Redis.
        folder: for files; what is made there is removed again.

    Raises:
        AssertionError: the run did not succeed, or dealt with another number of rows.
    """
    place = folder / f"{case.name}-{rows}"
    out = place / "out"
    out.mkdir(parents=True)
    async with copy_of(environment["DATABASE_URL"]) as url:
        await _prepare(case, url, place, rows)
        settings = {**case.environment, "DATABASE_URL": url, "WORKER_OUTPUT_DIRS": str(out)}
        peak = await _measure(case, {**environment, **settings}, place, rows)
    shutil.rmtree(place)
    return peak


async def _prepare(case: MemoryCase, url: str, place: Path, rows: int) -> None:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await case.prepare(connection, place, rows)
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        # what autovacuum would have done by the time that anybody ran a job on such a table
        await connection.execute(text("VACUUM ANALYZE"))
    await engine.dispose()


async def _measure(case: MemoryCase, environment: Mapping[str, str], place: Path, rows: int) -> int:
    settings = load_settings(
        database_url=environment["DATABASE_URL"], redis_url=environment["REDIS_URL"], jobs=environment["WORKER_JOBS"]
    )
    load_declared(settings)
    async with Redis.from_url(environment["REDIS_URL"]) as redis:
        await redis.flushdb()
    async with open_client(settings, REGISTRY) as client:
        run = await client.enqueue(case.job, case.params(place), options=case.options)
        with worker_process(environment, place.parent / "worker.log") as process:
            record = await client.wait(run.id)
            status = Path(f"/proc/{process.pid}/status").read_text()
    assert record.status == "succeeded", record.error
    assert record.done == rows
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
