"""Whose turn it is to write: the transactions of one process get a file's write lock in the order in which they ask.

SQLite has one writer at a time, and whoever waits looks again every so often: with many in a row, one may be unlucky
for as long as the others go on. Within a process nobody need be. Between processes SQLite's own waiting remains.

Owns the queue. It makes waiting fair, and no transaction depends on it being right: the lock is SQLite's.
"""

import asyncio


class Turns:
    """The queue of those who write to one file, each known by its connection."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._writer: object = None

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

    def end(self, connection: object) -> None:
        """It is the next one's turn, if it was this one's."""
        if self._writer is connection:
            self._writer = None
            self._lock.release()
