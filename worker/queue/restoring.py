"""When a worker tries to have Redis filled again: one try at a time, and a while after one that failed.

Owns the tries. Refuses to know what is filled, and whether it is due: what it is given does.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from worker.queue.errands import Errands

FILLING: Final = "filling Redis from the ledger"
"""The name of the task that does."""

AGAIN_S: Final = 1.0
"""How long after a failure the next try is made, in seconds."""


class Restoring:
    """The tries of one worker.

    Args:
        restore: fills Redis again from elsewhere where that is due; told whether Redis has lost the marker.
        errands: carry the tries out.
    """

    def __init__(self, restore: Callable[[bool], Coroutine[Any, Any, None]], errands: Errands) -> None:
        self._restore = restore
        self._errands = errands
        self._trying = False
        self._after = 0.0
        self._done_once = False

    @property
    def done_once(self) -> bool:
        """Whether a try has come to its end."""
        return self._done_once

    def try_soon(self, *, lost: bool) -> None:
        """Have Redis filled where that is due.

        Args:
            lost: whether Redis has lost the marker.
        """
        if self._trying or asyncio.get_running_loop().time() < self._after:
            return
        self._trying = True
        self._errands.send(self._try(lost=lost), FILLING)

    async def _try(self, *, lost: bool) -> None:
        self._after = asyncio.get_running_loop().time() + AGAIN_S
        try:
            await self._restore(lost)
            self._after = 0.0
            self._done_once = True
        finally:
            self._trying = False
