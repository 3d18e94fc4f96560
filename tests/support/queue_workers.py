"""The worker under test: Heavylift's queue worker, or the one that HEAVYLIFT_QUEUE_WORKER names, such as arq's own.

With `HEAVYLIFT_QUEUE_WORKER=arq.worker.Worker` the very same tests show what arq does. Owns making, running and ending
such workers; one that ends by itself while a test waits for something fails the test with its reason.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from inspect import isawaitable
from typing import Any, cast

from arq.connections import RedisSettings
from arq.worker import Function, Worker, func

from worker.run.stop_signal import StopSignal

SWITCH = "HEAVYLIFT_QUEUE_WORKER"
OURS = "worker.queue.queue_worker.QueueWorker"

LEASE_S = 1.0
"""A lease in these tests, in seconds. arq's worker has none."""

DEADLINE_S = 5.0
"""How long anything may take that takes a moment, in seconds."""

Condition = Callable[[], object]
"""Tells, at once or when awaited, whether something is so."""


async def _nothing(ctx: dict[str, Any]) -> str:
    del ctx
    return "done"


NOTHING = func(_nothing, name="nothing")
"""A job that succeeds at once, with the result `done`."""


def worker_class() -> type[Worker]:
    """The class under test."""
    module, _, name = os.environ.get(SWITCH, OURS).rpartition(".")
    return cast("type[Worker]", getattr(import_module(module), name))


def is_arqs() -> bool:
    """Whether arq's own worker is under test."""
    return worker_class() is Worker


def make_worker(redis_url: str, functions: Sequence[Function] = (), **options: Any) -> Worker:
    """A worker that looks for work every 50 ms, unless told otherwise.

    Args:
        redis_url: its Redis.
        functions: plain arq functions.
        options: `arq.worker.Worker`'s own.
    """
    chosen: dict[str, Any] = {
        "redis_settings": RedisSettings.from_dsn(redis_url),
        "handle_signals": False,
        "poll_delay": 0.05,
        **options,
    }
    if not is_arqs():
        # as `heavylift run` has it, but for a short lease
        chosen |= {"lease_s": LEASE_S, "stop": StopSignal(), "keep_payloads": True}
    return worker_class()(functions=functions, **chosen)


def claim_s(worker: Worker) -> float:
    """How long a claim of that worker lives that is never renewed, in seconds."""
    return worker.in_progress_timeout_s if is_arqs() else LEASE_S


async def until(condition: Condition, otherwise: str, within_s: float = DEADLINE_S) -> None:
    """Wait until a condition holds.

    Args:
        condition: asked every 10 ms.
        otherwise: what is wrong where it never does.
        within_s: how long that may take, in seconds.
    """
    deadline = time.monotonic() + within_s
    while not await _holds(condition):
        assert time.monotonic() < deadline, f"{otherwise} ({within_s:g} s)"
        await asyncio.sleep(0.01)


async def _holds(condition: Condition) -> object:
    found = condition()
    return await found if isawaitable(found) else found


@dataclass(frozen=True, slots=True)
class Running:
    """A worker at work; `main` ends when it does."""

    worker: Worker
    main: asyncio.Task[None]

    def assert_lives(self) -> None:
        """Fail if the worker has ended by itself."""
        if self.main.done():
            error = None if self.main.cancelled() else self.main.exception()
            raise AssertionError(f"the worker ended by itself: {error!r}") from error

    async def until(self, condition: Condition, otherwise: str, within_s: float = DEADLINE_S) -> None:
        """Wait until a condition holds, while the worker lives; see `until`."""

        async def lives_and_holds() -> object:
            self.assert_lives()
            return await _holds(condition)

        await until(lives_and_holds, otherwise, within_s)


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[Running]:
    """Let a worker work as long as the block lasts, then close it."""
    main = asyncio.create_task(worker.async_run())
    try:
        yield Running(worker, main)
        await worker.close()
    finally:
        await clean_up(worker)
        await asyncio.gather(main, return_exceptions=True)


async def clean_up(worker: Worker) -> None:
    """End what a worker left undone when it, or its test, failed."""
    left = [task for task in (worker.main_task, *worker.tasks.values(), *worker.job_tasks.values()) if task is not None]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    if worker._pool is not None:
        await worker._pool.aclose(close_connection_pool=True)
