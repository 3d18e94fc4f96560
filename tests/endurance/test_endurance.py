"""What takes minutes: twenty kills of one long run, and millions of rows in flat memory. Run by `make endurance`."""

import asyncio
import os
import random
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from tests.support.memory_cases import CASES, write_items
from tests.support.peak_memory import MemoryCase, peak_memory_of
from tests.support.worker_process import worker_process
from worker import REGISTRY, Client, load_settings, open_client
from worker.database.engine import Database
from worker.main import load_declared

pytestmark = [pytest.mark.endurance, pytest.mark.timeout(900)]

KILLS = 20
ROWS = 300_000


async def enqueue_items(client: Client, path: Path) -> str:
    """Enqueue the upsert of a file of items."""
    run = await client.enqueue("bulk_upsert", {"table": "item", "source": {"uri": path.as_uri()}})
    return run.id


async def wait_for_chunk(client: Client, run_id: str, chunk_done: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the run has done more rows than that; False where it has ended first."""
    while True:
        assert process.poll() is None, "the worker ended by itself"
        record = await client.get(run_id)
        if record.status.finished:
            return False
        if record.done > chunk_done:
            return True
        await asyncio.sleep(0.01)


async def test_twenty_kills(environment: dict[str, str], database: Database, tmp_path: Path) -> None:
    """A run of 300,000 rows, killed at 20 random moments and delivered again, ends with exact counts and table."""
    rand = random.Random(os.environ.get("HEAVYLIFT_SEED", "20"))
    path = tmp_path / "items.csv"
    write_items(path, ROWS)
    environment |= {"WORKER_LEASE_S": "1", "WORKER_CHUNK_MAX_ROWS": "2000", "WORKER_CHUNK_TARGET_MS": "40"}
    settings = load_settings(
        database_url=environment["DATABASE_URL"], redis_url=environment["REDIS_URL"], data_dirs=(tmp_path,)
    )
    load_declared(settings)
    async with open_client(settings, REGISTRY) as client, Redis.from_url(environment["REDIS_URL"]) as redis:
        run_id = await enqueue_items(client, path)
        kills = 0
        while kills < KILLS:
            with worker_process(environment, tmp_path / "worker.log") as process:
                done = (await client.get(run_id)).done
                assert await wait_for_chunk(client, run_id, done, process), f"it ended after {kills} kills"
                await asyncio.sleep(rand.uniform(0, 0.12))
                process.kill()
                process.wait()
                kills += 1
            # delivered again at once, as after the end of the lease
            await redis.delete(f"arq:in-progress:{run_id}")
        with worker_process(environment, tmp_path / "worker.log"):
            record = await client.wait(run_id)
    assert record.status == "succeeded", record.error
    assert record.result == {
        "read": ROWS,
        "inserted": ROWS,
        "updated": 0,
        "unchanged": 0,
        "duplicates": 0,
        "quarantined": 0,
    }
    assert record.crashes == KILLS
    async with database.engine.connect() as connection:
        found = (await connection.execute(text("SELECT count(*), sum(quantity) FROM item"))).one()
    assert tuple(found) == (ROWS, ROWS * (ROWS - 1) // 2)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize("case", CASES, ids=attrgetter("name"))
async def test_flat_memory(case: MemoryCase, environment: dict[str, str], tmp_path: Path) -> None:
    """The peak memory of a worker for ten or twenty times the rows is within 1.3 times that for the fewer."""
    few = await peak_memory_of(case, case.few, environment, tmp_path)
    many = await peak_memory_of(case, case.many, environment, tmp_path)
    print(f"{case.name}: {few} KiB at most for {case.few:,} rows, {many} KiB for {case.many:,}: {many / few:.3f} times")
    assert many <= 1.3 * few
