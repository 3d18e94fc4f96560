"""The benchmark's own servers, the processes that are measured against them, and what Redis counts meanwhile."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arq.connections import ArqRedis
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.engine import make_url

from benchmarks.queue.work import READING
from worker.client import Client
from worker.core.settings import Settings
from worker.database.engine import Database
from worker.embedded import PostgresProcess, RedisProcess

ROOT = Path(__file__).resolve().parents[2]
LONGEST_S = 300.0
"""How long one measurement may take, in seconds, before something is taken to be wrong."""

LAST_WORDS = 2_000
"""How much of a measured process's log is shown where it failed, in characters."""

QUIET = {"appendonly": "no"}
"""Redis keeps nothing on disk: how fast a disk takes its log is no figure of a worker's."""


class MeasurementError(Exception):
    """Something did not happen, or not as often as it should: there is no figure."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Connections of the benchmark's own.

    Attributes:
        settings: of workers and clients.
        redis: a client of arq's own, without any configuration.
        database: with ledger and the table that jobs insert into.
        client: ours.
    """

    settings: Settings
    redis: ArqRedis
    database: Database
    client: Client

    async def empty(self) -> None:
        """Begin anew, with empty tables and an empty Redis."""
        await self.redis.flushall()
        async with self.database.engine.begin() as connection:
            await connection.execute(text(f"TRUNCATE {READING.name}, heavylift_runs CASCADE"))

    async def counts(self) -> dict[str, float]:
        """What Redis has counted since its start: commands, scripts' own among them, reads, and its processor time."""
        found: dict[str, Any] = await self.redis.info()
        return {
            "commands": found["total_commands_processed"],
            "reads": found["total_reads_processed"],
            "cpu_s": found["used_cpu_user"] + found["used_cpu_sys"],
        }


def settings_for(postgres: PostgresProcess, redis: RedisProcess) -> Settings:
    """Settings of workers and clients."""
    url = make_url(postgres.url).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)
    return Settings(
        database_url=SecretStr(url),
        redis_url=SecretStr(redis.url),
        jobs=("benchmarks.queue.work",),
        # the table of rows is nobody's model
        models=(),
    )


@asynccontextmanager
async def measured(way: str, stores: Stores, *arguments: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A measured process, while it is; killed at the end, which is nobody's figure."""
    settings = stores.settings
    assert settings.database_url is not None  # noqa: S101 - `settings_for` set them
    assert settings.redis_url is not None  # noqa: S101 - likewise
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("WORKER_", "PYTHONPATH"))},
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "WORKER_JOBS": ",".join(settings.jobs),
        "WORKER_LOG_LEVEL": "info" if way.endswith("logging") else "warning",
        "PYTHONPATH": str(ROOT),
    }
    command = (sys.executable, "-m", "benchmarks.queue.measured", way, *(str(number) for number in arguments))
    with tempfile.TemporaryFile() as said:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
        )
        try:
            yield process
        except MeasurementError:
            said.seek(0)
            print(said.read().decode(errors="replace")[-LAST_WORDS:], file=sys.stderr)
            raise
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def report(process: asyncio.subprocess.Process) -> dict[str, float]:
    """What a measured process's meter says at the end.

    Raises:
        MeasurementError: it said nothing.
    """
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    try:
        line = await asyncio.wait_for(process.stdout.readline(), LONGEST_S)
    except TimeoutError:
        line = b""
    if not line:
        raise MeasurementError(f"the measured process ended, or took {LONGEST_S:g} s, without a word")
    said: dict[str, float] = json.loads(line)
    return said
