"""Several workers on one queue: each that was killed or stopped is replaced, and none may end by itself.

Owns who should live. Refuses to choose when somebody is to die.
"""

import asyncio
import os
import random
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.forge import Forge, ForgedWorker

STARTS = 10
"""How often a worker is started at most, as whoever supervises it does, until it finds its database."""


class Fleet:
    """Use it as an async context manager.

    Args:
        forge: of workers.
        environment: all of a worker's.
        folder: for their logs.
        size: how many there are.
        rand: who is chosen.
    """

    def __init__(
        self, forge: Forge, environment: Mapping[str, str], folder: Path, size: int, rand: random.Random
    ) -> None:
        self._forge = forge
        self._environment = dict(environment)
        self._folder = folder
        self._size = size
        self._rand = rand
        self._stack = AsyncExitStack()
        self._workers: list[ForgedWorker] = []
        self._started = 0

    async def __aenter__(self) -> Self:
        for _ in range(self._size):
            await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def pids(self) -> list[int]:
        """Of those that should live."""
        return [worker.pid for worker in self._workers]

    def check(self) -> None:
        """Every worker lives.

        Raises:
            AssertionError: one has ended by itself; the message has the end of the log.
        """
        for worker in self._workers:
            assert _lives(worker.pid), f"worker {worker.pid} has ended by itself; {worker.tail()}"

    async def end_one(self, number: signal.Signals) -> int:
        """Send one worker a signal that ends it, wait for its end, and start another in its place; returns its pid."""
        self.check()
        worker = self._workers.pop(self._rand.randrange(len(self._workers)))
        worker.send_signal(number)
        code = await worker.ended()
        assert code == (-number if number is signal.SIGKILL else 0), worker.tail()
        await self._start()
        return worker.pid

    async def stall_one(self, seconds: float) -> int:
        """Have one worker stand still for so long; returns its pid."""
        self.check()
        worker = self._rand.choice(self._workers)
        worker.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            worker.send_signal(signal.SIGCONT)
        return worker.pid

    async def _start(self) -> None:
        """Start one, and wait until it serves the queue; again where it says that it was started without a database."""
        for _ in range(STARTS):
            self._started += 1
            log = self._folder / f"worker-{self._started}.log"
            worker = await self._stack.enter_async_context(self._forge.worker(self._environment, log))
            while b"worker_started" not in log.read_bytes() and _lives(worker.pid):
                await asyncio.sleep(0.01)
            if _lives(worker.pid):
                self._workers.append(worker)
                return
            await worker.ended()
            assert b"is DATABASE_URL right?" in log.read_bytes(), f"a worker could not start; {worker.tail()}"
        raise AssertionError(f"no worker could be started in {STARTS} tries; {worker.tail()}")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
