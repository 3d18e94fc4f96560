"""The demonstration's worker: a process of its own, as a user would start it, stopped in whatever way the show ends.

Owns that process, its environment and its log. Refuses to know what the worker does.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from worker.core.errors import UnreachableError
from worker.core.settings import Settings

STOP_S: Final = 5.0
"""Beyond its own grace, a worker has this many seconds to stop before it is killed."""

_TAIL_BYTES: Final = 2_000

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A started worker.

    Attributes:
        process: its process.
        log: the file that holds everything it says.
    """

    process: asyncio.subprocess.Process
    log: Path

    async def while_alive(self, work: Awaitable[Result]) -> Result:
        """Wait for something that the worker has to do.

        Raises:
            UnreachableError: the worker ended before it was done; the message has the end of its log.
        """
        doing, ending = asyncio.ensure_future(work), asyncio.ensure_future(self.process.wait())
        try:
            await asyncio.wait({doing, ending}, return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                return doing.result()
            raise UnreachableError(
                f"The demonstration's worker ended too soon, with code {self.process.returncode}. Its log, {self.log}, "
                f"ends with:\n{self._tail()}"
            )
        finally:
            doing.cancel()
            ending.cancel()
            await asyncio.gather(doing, ending, return_exceptions=True)

    def _tail(self) -> str:
        return self.log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip() or "(nothing)"


@asynccontextmanager
async def start_worker(command: Sequence[str], settings: Settings, log: Path) -> AsyncIterator[WorkerProcess]:
    """Run a worker for as long as the block lasts.

    Args:
        command: what starts it.
        settings: the demonstration's; the worker is told of them by its environment.
        log: the file for what it says; what it held is replaced.
    """
    process = await _start(command, settings, log)
    try:
        yield WorkerProcess(process, log)
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), settings.grace_s + STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _start(command: Sequence[str], settings: Settings, log: Path) -> asyncio.subprocess.Process:
    output = await asyncio.to_thread(log.open, "wb")
    with output:
        return await asyncio.create_subprocess_exec(
            *command,
            env=_environment(settings),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
        )


def _environment(settings: Settings) -> dict[str, str]:
    secrets = {"DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url}
    return {
        **os.environ,
        **{name: value.get_secret_value() for name, value in secrets.items() if value is not None},
        "WORKER_MODELS": ",".join(settings.models),
        "WORKER_JOBS": ",".join(settings.jobs),
        "WORKER_REFLECT": ",".join(settings.reflect),
        "WORKER_ALLOW": json.dumps(settings.allow),
        "WORKER_DATA_DIRS": ",".join(map(str, settings.data_dirs)),
        "WORKER_OUTPUT_DIRS": ",".join(map(str, settings.output_dirs)),
        "WORKER_QUEUE": settings.queue,
    }
