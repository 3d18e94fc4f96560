"""Calls whose failure must not reach whoever asked for them: hooks, and what the worker does beside its jobs.

Owns that each runs in a task of its own, whose error is looked at and logged. Refuses to catch: an error that nobody
awaits goes no further by itself.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final

AGAIN_S: Final = 1.0
"""After how long an errand that was cancelled is cancelled again, in seconds; see `worker.run.cancellation`."""

logger = logging.getLogger("arq.worker")

Hook = Callable[[dict[str, Any]], Awaitable[None]]
"""One of arq's hooks: called with a context."""


class Errands:
    """Tasks that nobody waits for, until the end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Begin one.

        Args:
            work: what to do.
            name: the task's, and for the log, if it raises.
        """
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(partial(self._done, name))

    async def done(self) -> None:
        """Wait until all have ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def stop(self) -> None:
        """Cancel what has not ended, and wait for that. What did not hear of it is told again."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=AGAIN_S)

    def _done(self, name: str, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if (error := error_of(task)) is not None:
            logger.error("%s raised; the worker goes on", name, exc_info=error)


async def call_hook(hook: Hook, context: dict[str, Any], name: str) -> None:
    """Call one of arq's hooks to its end; what it raises is logged.

    Args:
        hook: it.
        context: what it is called with.
        name: for the log.

    Raises:
        asyncio.CancelledError: the caller was cancelled, and the hook with it.
    """
    task = asyncio.ensure_future(hook(context))
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        raise
    if (error := error_of(task)) is not None:
        logger.error("%s raised; the job goes on", name, exc_info=error)


def error_of(task: "asyncio.Future[Any]") -> BaseException | None:
    """What a task that has ended raised; a cancellation is no error."""
    return None if task.cancelled() else task.exception()
