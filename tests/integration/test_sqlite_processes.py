"""Several processes on one SQLite file: each gets its turn, and nothing is lost when one is killed."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import pytest
from sqlalchemy import text

from tests.support.sqlite_files import sqlite_database
from worker.database.engine import Database

WRITER = """
import asyncio, sys
from pathlib import Path
from sqlalchemy import text
from tests.support.sqlite_files import sqlite_database

async def main(path, name, rows, hold_s):
    async with sqlite_database(Path(path), lock_timeout_ms=10_000) as database:
        for number in range(int(rows)):
            async with database.engine.begin() as connection:
                total = (await connection.execute(text("SELECT count(*) FROM item"))).scalar_one()
                await connection.execute(text("INSERT INTO item (name, seen) VALUES (:name, :seen)"),
                                         {"name": name, "seen": total})
                await connection.execute(text("UPDATE total SET value = value + 1"))
                print("in it", flush=True)
                await asyncio.sleep(float(hold_s))

asyncio.run(main(*sys.argv[1:]))
"""


@asynccontextmanager
async def writer(path: Path, name: str, rows: int, hold_s: float) -> AsyncIterator[Process]:
    """A process that writes so many rows, each in a transaction that takes so long."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        WRITER,
        str(path),
        name,
        str(rows),
        str(hold_s),
        stdout=PIPE,
        cwd=Path(__file__).parents[2],
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A file with two tables that agree."""
    async with sqlite_database(tmp_path / "app.db", lock_timeout_ms=10_000) as database:
        async with database.engine.begin() as connection:
            await connection.execute(text("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, seen INTEGER)"))
            await connection.execute(text("CREATE TABLE total (value INTEGER)"))
            await connection.execute(text("INSERT INTO total VALUES (0)"))
        yield database


async def agreed(database: Database) -> int:
    """How many rows were committed: by count, by the sum kept beside them, and by what each transaction saw."""
    async with database.reading() as connection:
        query = "SELECT count(*), (SELECT value FROM total), count(DISTINCT seen), coalesce(max(seen) + 1, 0) FROM item"
        found = set((await connection.execute(text(query))).one())
    assert len(found) == 1
    return int(found.pop())


async def test_processes_take_turns_and_lose_nothing(database: Database, tmp_path: Path) -> None:
    """Each transaction sees all that were committed before it, whichever process they were of."""
    path = tmp_path / "app.db"
    async with writer(path, "a", 30, 0) as first, writer(path, "b", 30, 0) as second:
        assert [await process.wait() for process in (first, second)] == [0, 0]
    assert await agreed(database) == 60


async def test_a_process_that_writes_without_a_pause_leaves_gaps(database: Database, tmp_path: Path) -> None:
    """Another one gets the lock within a few of its transactions, though each follows on the heels of the last."""
    async with writer(tmp_path / "app.db", "busy", 200, 0.05) as busy:
        assert busy.stdout is not None
        await busy.stdout.readline()
        waits = []
        for _ in range(5):
            asked = monotonic()
            async with database.engine.begin() as connection:
                await connection.execute(text("SELECT 1"))
                waits.append(monotonic() - asked)
        assert busy.returncode is None
    assert max(waits) < 2, waits


async def test_a_killed_process_leaves_neither_rows_nor_its_lock(database: Database, tmp_path: Path) -> None:
    """What it had not committed is gone, and the next one need not wait for it."""
    async with writer(tmp_path / "app.db", "killed", 1, 60) as process:
        assert process.stdout is not None
        await process.stdout.readline()
        process.kill()
        await process.wait()
        assert await agreed(database) == 0
        async with database.engine.begin() as connection:
            await connection.execute(text("UPDATE total SET value = 0"))


async def test_a_stopped_process_keeps_its_lock_until_it_goes_on(database: Database, tmp_path: Path) -> None:
    """Nobody can take the lock from a process that is suspended in a transaction; readers do not mind."""
    async with writer(tmp_path / "app.db", "stopped", 1, 0.5) as process:
        assert process.stdout is not None
        await process.stdout.readline()
        os.kill(process.pid, signal.SIGSTOP)
        waiting = asyncio.create_task(_add_one(database))
        assert await agreed(database) == 0
        await asyncio.sleep(0.7)
        assert not waiting.done()
        os.kill(process.pid, signal.SIGCONT)
        await waiting
    assert await agreed(database) == 2


async def _add_one(database: Database) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(text("INSERT INTO item (name, seen) SELECT 'next', count(*) FROM item"))
        await connection.execute(text("UPDATE total SET value = value + 1"))
