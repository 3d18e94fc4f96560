"""The sweep that keeps Redis in step with the ledger: what a flush or a failover took comes back.

Owns the walk over the ledger's unfinished runs and over the queue, a page at a time, and when it is made. Refuses to
swallow errors: whoever calls logs them, and calls again.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from arq.connections import ArqRedis
from arq.constants import expires_extra_ms
from redis.exceptions import RedisError

from worker.core.clock import Clock
from worker.core.settings import Settings
from worker.database.engine import Database
from worker.database.unfinished import unfinished_ids
from worker.queue.refill import Refill
from worker.queue.restore_scripts import KEEP
from worker.queue.restore_turn import TURN_MS, Turn, turn_key

ENTRIES: Final = 1_000
"""Queue entries of a page."""

NEAR_MS: Final = 60_000
"""How near an expiry must be to arq's default one to be taken for it, in ms: the clocks of clients and Redis differ."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a sweep did.

    Attributes:
        looked_at: unfinished runs of the ledger.
        delivered: those that Redis lacked and has again.
        lost: those that nobody had read and whose payload is gone; they have ended as failed.
        refused: those whose payload would be too large for any worker; the ledger says so.
        kept: payloads that would have expired in the backlog and do not any more.
        took_ms: how long it took.
        complete: False where Redis was flushed meanwhile, or another worker had begun: sweep again.
    """

    looked_at: int
    delivered: int
    lost: int
    refused: int
    kept: int
    took_ms: float
    complete: bool


class Restorer:
    """Sweeps for one worker; of many workers one sweeps at a time.

    Args:
        redis: any pool.
        database: the ledger's.
        settings: the queue, the lease, the codec and the database's timeouts.
        clock: time.
    """

    def __init__(self, redis: ArqRedis, database: Database, settings: Settings, clock: Clock) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._queue = settings.queue
        self._turn_key = turn_key(settings.queue)
        self._turn = Turn(redis, settings.queue, clock)
        self._refill = Refill(redis, database, settings, clock)
        self._keep = redis.register_script(KEEP)

    async def run_if_needed(self, *, lost: bool = False) -> Restored | None:
        """Sweep where it is time: at once where Redis lost the marker, otherwise now and then.

        Args:
            lost: whether the caller saw that the marker is missing. Without it, and until the next sweep is due, no
                round trip is made.

        Returns:
            What was done; None where nothing is due or another worker is at it.

        Raises:
            Exception: what `Database.raises` names, RedisError or OSError: a store is away. Call again later.
        """
        token = await self._turn.begin(lost=lost)
        if token is None:
            return None
        try:
            return await self._sweep(token)
        except BaseException:
            # if Redis is away, which is what is raised, then the turn ends by itself
            with suppress(RedisError, OSError):
                await self._turn.give_back(token)
            raise

    async def _sweep(self, token: str) -> Restored:
        began_ms = self._clock.monotonic_ms()
        looked_at = delivered = lost = refused = 0
        mine = True
        async for run_ids in unfinished_ids(self._database, self._settings, self._queue):
            missing = await self._refill.missing(run_ids, self._turn_key, token)
            if missing is None:
                mine = False
                break
            looked_at += len(run_ids)
            async for refilled in self._refill.deliver(missing, missing):
                delivered += len(refilled.delivered)
                lost += len(refilled.lost)
                refused += len(refilled.refused)
        kept = await self._keep_backlog(token) if mine else 0
        took_ms = self._clock.monotonic_ms() - began_ms
        complete = mine and await self._turn.complete(token, took_ms)
        return Restored(looked_at, delivered, lost, refused, kept, took_ms, complete)

    async def _keep_backlog(self, token: str) -> int:
        """Let the payloads of runs that only Redis knows outlive the backlog; how many would not have."""
        at, kept = 0, 0
        # from the end: entries leave the queue at its beginning, so that none is passed by
        while found := await self._keep(
            keys=[self._queue, self._turn_key], args=[token, TURN_MS, at, ENTRIES, expires_extra_ms, NEAR_MS]
        ):
            at += int(found[0])
            kept += int(found[1])
            if found[0] < ENTRIES:
                break
        return kept
