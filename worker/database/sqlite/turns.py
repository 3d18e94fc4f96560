"""Whose turn it is to write: the transactions of one process get a file's write lock in the order in which they ask.

SQLite has one writer at a time, and whoever waits looks again every so often: with many in a row, one may be unlucky
for as long as the others go on. Within a process nobody need be. Between processes a process that has just written for
long leaves a gap that is wide enough for any other to find.

Owns the queue. It makes waiting fair, and no transaction depends on it being right: the lock is SQLite's.
"""

import asyncio
from time import monotonic
from typing import Final
from weakref import WeakKeyDictionary, WeakValueDictionary

from worker.database.sqlite.driver import LOOK_S

GAP_S: Final = 2 * LOOK_S
"""How long the lock is left to others, in seconds, by whoever had it for long."""

LONG_S: Final = 0.02
"""From which time on that is, in seconds: a claim or an ending is not worth a gap."""


class Turns:
    """The queue of those of one process who write to one file, each known by its connection."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._writer: object = None
        self._since = 0.0
        self._free_from = 0.0

    async def wait(self, connection: object, seconds: float) -> None:
        """Wait for one's turn, which lasts until `end`.

        Raises:
            TimeoutError: it did not come within so many seconds.
        """
        if self._writer is connection:
            return
        async with asyncio.timeout(seconds):
            await self._lock.acquire()
        self._writer = connection
        try:
            if (gap_s := self._free_from - monotonic()) > 0:
                await asyncio.sleep(gap_s)
        except BaseException:
            self.end(connection)
            raise
        self._since = monotonic()

    def end(self, connection: object) -> None:
        """It is the next one's turn, if it was this one's."""
        if self._writer is not connection:
            return
        self._writer = None
        now = monotonic()
        if now - self._since > LONG_S:
            self._free_from = now + GAP_S
        self._lock.release()


_TURNS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[str, Turns]]] = WeakKeyDictionary()


def turns_at(path: str) -> Turns:
    """The queue for a file, shared by all engines of the running event loop that write to it."""
    files = _TURNS.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
    found = files.get(path)
    if found is None:
        files[path] = found = Turns()
    return found
