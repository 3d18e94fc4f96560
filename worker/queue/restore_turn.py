"""Whose turn it is to compare Redis with the ledger, and when: one worker at a time, at once after a loss.

Owns the marker, which a flushed Redis has not, and the turn, a key with an expiry. A turn that was begun before a
flush is not one that may set the marker: the turn's key was flushed as well.
"""

from typing import Final
from uuid import uuid4

from arq.connections import ArqRedis

from worker.core.clock import Clock, to_ms
from worker.queue.restore_scripts import BEGIN, END

TURN_MS: Final = 30_000
"""How long a turn lasts without a sign of its worker, in ms: longer than a page's statement may take."""

LEAST_PERIOD_MS: Final = 60_000
"""How long after a sweep the next one begins at the earliest, in ms, where nothing is known to be lost."""

SHARE: Final = 20
"""A sweep is followed by at least so many times its own length without one."""

AGAIN_MS: Final = 1_000
"""How long a worker that finds another at it waits before it asks again, in ms."""


def marker_key(queue: str) -> str:
    """The key that says that Redis was filled from the ledger and has not been flushed since; it has no expiry."""
    return f"heavylift:restored:{queue}"


def turn_key(queue: str) -> str:
    """The key that the worker holds which compares Redis with the ledger."""
    return f"heavylift:restoring:{queue}"


class Turn:
    """One worker's view of whose turn it is.

    Args:
        redis: any pool.
        queue: the queue's name.
        clock: time.
    """

    def __init__(self, redis: ArqRedis, queue: str, clock: Clock) -> None:
        self._keys = (marker_key(queue), turn_key(queue))
        self._clock = clock
        self._begin = redis.register_script(BEGIN)
        self._end = redis.register_script(END)
        self._due_ms = 0
        self._again_ms = 0

    async def begin(self, *, lost: bool) -> str | None:
        """Take the turn where a sweep is due; no round trip is made before one can be.

        Args:
            lost: whether the marker was found missing, so that what this worker remembers of it is void.

        Returns:
            A token for the turn; None where nothing is due, or another worker is at it.
        """
        now_ms = to_ms(self._clock.now())
        if now_ms < self._again_ms or (now_ms < self._due_ms and not lost):
            return None
        token = uuid4().hex
        answer = int(await self._begin(keys=self._keys, args=[token, TURN_MS, now_ms]))
        self._due_ms = now_ms + max(0, answer)
        self._again_ms = now_ms + AGAIN_MS if answer < 0 else 0
        return token if answer == 0 else None

    async def complete(self, token: str, took_ms: float) -> bool:
        """Set the marker after a sweep that came to its end.

        Returns:
            False where Redis was flushed meanwhile, or the turn passed on: then nothing is set.
        """
        now_ms = to_ms(self._clock.now())
        due_ms = now_ms + max(LEAST_PERIOD_MS, round(SHARE * took_ms))
        mine = bool(await self._end(keys=self._keys, args=[token, f"{now_ms} {due_ms}"]))
        self._due_ms = due_ms if mine else 0
        return mine

    async def give_back(self, token: str) -> None:
        """Let another worker try, after a sweep that did not come to its end."""
        await self._end(keys=self._keys, args=[token, ""])
