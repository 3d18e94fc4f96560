"""The loop: step, start what the step has claimed, rest until something changes, and outlast Redis.

Owns when a step is made and what it asks for. What is under way is `in_flight`'s business, the connections `link`'s,
arq's surface `queue_worker`'s.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from redis.exceptions import RedisError, ResponseError

from worker.core.retry import backoff_s
from worker.queue.in_flight import InFlight
from worker.queue.link import Link
from worker.queue.step import MOST_ENDINGS, Asked, Ending, Reply
from worker.run.cancellation import heed_cancellation

RECONNECT_BASE_S: Final = 0.1
RECONNECT_CAP_S: Final = 2.0
"""The longest pause between two tries to reach Redis, in seconds."""

QUIET_BASE_S: Final = 0.0005
QUIET_CAP_S: Final = 0.02
"""How long a worker waits, in seconds, that is woken again and again by what other workers have taken already."""

CHANGES_APART_S: Final = 0.05
"""After how quiet a time, in seconds, a change is news again."""

GATHER_S: Final = 0.003
"""How long a worker with a backlog waits, in seconds, after one of its jobs has ended, for others to end as well.

What a step costs, here and in the ledger, it costs for all of them together.
"""

DEFERRED_SLACK_S: Final = 0.0005
"""How much after a deferred job's moment it is looked for, in seconds, lest it be looked for twice."""

LAST_WORDS_S: Final = 2.0
"""How long a worker that ends tries to tell Redis how its jobs ended, in seconds; the ledger knows it already."""

logger = logging.getLogger("worker.queue")


@dataclass(frozen=True, slots=True)
class Claiming:
    """How a worker claims.

    Attributes:
        holder: its name in leases.
        lease_s: how long a claim holds without renewal, in seconds.
        keep_payloads: whether a claimed job's payload loses its expiry.
    """

    holder: str
    lease_s: float
    keep_payloads: bool


class Loop:
    """A worker's loop.

    Args:
        link: to Redis.
        in_flight: the worker's deliveries.
        claiming: how to claim.
        changed: set when there is something to do.
        free_slots: how many deliveries may be claimed now.
        lost: called where Redis has lost its marker.
    """

    def __init__(
        self,
        link: Link,
        in_flight: InFlight,
        claiming: Claiming,
        changed: asyncio.Event,
        free_slots: Callable[[], int],
        lost: Callable[[], None],
    ) -> None:
        self._link = link
        self._in_flight = in_flight
        self._claiming = claiming
        self._changed = changed
        self._free_slots = free_slots
        self._lost = lost
        self._scan_from = 0
        self._doubtful = False
        self._stepped = False
        self._had_room = True

    async def serve(self, poll_s: float, is_over: Callable[[Reply], Awaitable[bool]] | None) -> None:
        """Serve the queue until cancelled.

        Args:
            poll_s: how often to look at least, in seconds.
            is_over: after which step a burst is over; None for no burst.

        Raises:
            redis.exceptions.ResponseError: Redis answers, but refuses what a worker needs.
        """
        failures, quiet = 0, 0
        while True:
            heed_cancellation()
            self._changed.clear()
            endings = self._in_flight.endings(MOST_ENDINGS)
            try:
                reply = await self.step(endings, count=is_over is not None)
                if is_over is not None and await is_over(reply):
                    return
            except (RedisError, OSError) as error:
                failures += 1
                await self._redis_is_away(error, failures)
                continue
            if failures:
                logger.warning("Redis answers again")
                failures = 0
            quiet = await self._rest(reply, poll_s, 0 if reply.taken or endings else quiet)

    async def step(self, endings: list[Ending], *, count: bool = False) -> Reply:
        """One step, and what follows from it. Cancelled in mid-step, what it claimed is put back.

        Args:
            endings: what Redis is told.
            count: whether to count the queue.

        Raises:
            redis.exceptions.RedisError: it may or may not have happened.
            OSError: likewise.
        """
        asked = Asked(
            self._claiming.holder,
            self._free_slots(),
            round(self._claiming.lease_s * 1000),
            self._in_flight.held_beside(endings),
            endings,
            self._scan_from,
            self._claiming.keep_payloads,
            self._doubtful,
            count,
        )
        stepping = asyncio.ensure_future(self._link.step(asked))
        try:
            reply = await asyncio.shield(stepping)
        except asyncio.CancelledError:
            await asyncio.wait({stepping})
            if not stepping.cancelled() and stepping.exception() is None:
                self._in_flight.written(endings)
                self._in_flight.give_back(stepping.result().taken)
            raise
        self._stepped, self._doubtful = True, False
        self._scan_from = reply.scan_from or 0
        self._in_flight.written(endings)
        self._had_room = len(reply.taken) < asked.want
        self._in_flight.begin(reply.taken)
        self._in_flight.abort(reply.aborts)
        if not reply.marked:
            self._lost()
        return reply

    async def write_endings(self, most_s: float, *, until_idle: bool) -> None:
        """Tell Redis how jobs ended, without claiming any.

        Args:
            most_s: how long at most, in seconds.
            until_idle: whether to wait for what is under way.
        """
        loop = asyncio.get_running_loop()
        end, away_since, told = loop.time() + most_s, None, True
        while (told and self._in_flight.has_endings) or (until_idle and self._in_flight.is_busy):
            left = end - loop.time()
            if left <= 0:
                return
            self._changed.clear()
            if not (told and self._in_flight.has_endings):
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._changed.wait()
                continue
            try:
                await self._tell(self._in_flight.endings(MOST_ENDINGS))
                away_since = None
            except (RedisError, OSError) as error:
                away_since = away_since or loop.time()
                if loop.time() - away_since > LAST_WORDS_S:
                    # what is still under way writes its end into the ledger all the same
                    logger.warning("Redis is away: it was not told how jobs ended: %s", error)
                    told = False
                    continue
                await asyncio.sleep(RECONNECT_BASE_S)

    async def close(self) -> None:
        """Give the connections up."""
        await self._link.close()

    async def _tell(self, endings: list[Ending]) -> None:
        try:
            await self._link.step(Asked(self._claiming.holder, 0, 0, endings=endings))
        except (RedisError, OSError):
            await self._link.close()
            raise
        self._in_flight.written(endings)

    async def _redis_is_away(self, error: Exception, failures: int) -> None:
        await self._link.forget()
        if not self._stepped and isinstance(error, ResponseError):
            # it answers, and refuses what a worker needs: that is for whoever set it up
            raise error
        # the step may have happened, and its reply been lost
        self._doubtful = True
        if failures & (failures - 1) == 0:
            logger.warning("Redis is away (try %d): %s: %s", failures, type(error).__name__, error)
        # half of it is certain, the rest spreads a fleet's tries
        share = random.uniform(0.5, 1)  # noqa: S311 - spreads load, hides nothing
        await asyncio.sleep(backoff_s(failures, RECONNECT_BASE_S, RECONNECT_CAP_S, share))

    async def _rest(self, reply: Reply, poll_s: float, quiet: int) -> int:
        """Wait until there is something to do, or until it is time to look again.

        Returns:
            How often in a row a change was nothing for this worker.
        """
        # jobs that do not wait for anything end in the meantime, and the next step tells of them all
        await asyncio.sleep(0)
        if self._in_flight.has_endings or reply.scan_from is not None:
            return 0
        rest_s = poll_s if reply.next_ms is None else min(poll_s, reply.next_ms / 1000 + DEFERRED_SLACK_S)
        loop = asyncio.get_running_loop()
        began = loop.time()
        alarm = loop.call_later(rest_s, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            alarm.cancel()
        if reply.taken and not self._had_room:
            await self._gather()
        if loop.time() - began >= min(rest_s, CHANGES_APART_S):
            return 0
        if quiet and not self._in_flight.has_endings:
            await asyncio.sleep(min(QUIET_CAP_S, QUIET_BASE_S * 2 ** min(quiet, 10)))
        return quiet + 1

    async def _gather(self) -> None:
        """Wait a moment for half of the slots to be free: the last step could not fill more, so there is a backlog."""
        enough = (self._in_flight.busy + self._in_flight.ended) // 2
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER_S):
                while self._in_flight.ended < enough:
                    self._changed.clear()
                    await self._changed.wait()
