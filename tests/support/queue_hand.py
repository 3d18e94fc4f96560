"""One virtual worker: what it has claimed, what it works on and what it has yet to tell Redis, as the loop keeps it."""

import asyncio
from typing import Final

from arq.connections import ArqRedis

from tests.support.stores import QUEUE
from worker.core.settings import Settings
from worker.database.claims import Claimed
from worker.database.engine import Database
from worker.database.ledger import Ledger
from worker.queue.link import Link
from worker.queue.restore_turn import marker_key
from worker.queue.scripts import RENEW
from worker.queue.step import Asked, Ending, Kind, Taken

LEASE_MS: Final = 600_000
"""Longer than any example: leases lapse when the model says so."""

RESULT: Final = b"3"
"""What Redis is told of a run that is over."""


class Hand:
    """One virtual worker.

    Args:
        name: the first part of its name; each of its processes has another second part.
        redis: any pool.
        database: the ledger's.
        settings: a worker's.

    Attributes:
        taken: claimed in Redis, not yet in the ledger.
        held: claimed in both.
        endings: what Redis has not been told for certain.
    """

    def __init__(self, name: str, redis: ArqRedis, database: Database, settings: Settings) -> None:
        self._first_name = name
        self._processes = 0
        self._renewal = redis.register_script(RENEW)
        self._database = database
        self._settings = settings
        self.link = Link(redis, QUEUE, marker_key(QUEUE), asyncio.Event())
        self.start()

    def start(self) -> None:
        """A new process, which knows nothing of what the one before it held."""
        self._processes += 1
        self.name = f"{self._first_name}.{self._processes}"
        self.ledger = Ledger(self._database, self._settings, self.name)
        self.taken: dict[str, Taken] = {}
        self.held: dict[str, tuple[Claimed, Taken]] = {}
        self.endings: dict[str, Ending] = {}
        self._doubtful = False

    async def step(self, want: int, *, lost: bool = False) -> None:
        """Tell Redis of the endings and claim; where the reply is lost, all of it is said again the next time.

        Args:
            want: how many to claim at most.
            lost: whether the reply is.
        """
        under_way = [*self.taken, *self.held]
        told = list(self.endings.values())
        reply = await self.link.step(Asked(self.name, want, LEASE_MS, under_way, told, adopt=self._doubtful))
        self._doubtful = lost
        if lost:
            await self.link.close()
            return
        self.endings = {}
        for taken in reply.taken:
            assert taken.run_id not in under_way, f"{taken.run_id} was claimed twice by {self.name}"
            self.taken[taken.run_id] = taken

    async def renew(self) -> None:
        """Renew the leases of what is under way, as the thread does."""
        await self._renewal(keys=[], args=[self.name, LEASE_MS, *self.taken, *self.held])

    def end(self, taken: Taken, kind: Kind) -> None:
        """A delivery has ended; Redis is told with the next step."""
        self.held.pop(taken.run_id, None)
        result = RESULT if kind is Kind.FINISH else b""
        self.endings[taken.run_id] = Ending(
            taken.run_id,
            taken.score,
            kind,
            result,
            LEASE_MS if result else 0,
            again_ms=LEASE_MS if kind is Kind.SPENT else 0,
        )
