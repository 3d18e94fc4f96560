"""What a worker does for Redis beside serving it: fill it from the ledger, and call back what was put aside.

Owns the order of the two, and what is logged of them. Refuses to swallow errors: the loop tries again.
"""

import logging
from collections.abc import Callable

from arq.connections import ArqRedis

from worker.core.clock import Clock
from worker.core.settings import Settings
from worker.database.ledger import Ledger
from worker.declare.registry import Registry
from worker.queue.put_aside import pull_forward
from worker.queue.restore import Restorer

logger = logging.getLogger("worker.queue")


class Filler:
    """For one worker.

    Args:
        redis: any pool.
        ledger_of: the worker's ledger, once it has started.
        settings: the queue, the codec, the lease, the database's timeouts.
        registry: the jobs that this worker knows.
        clock: time.
    """

    def __init__(
        self, redis: ArqRedis, ledger_of: Callable[[], Ledger], settings: Settings, registry: Registry, clock: Clock
    ) -> None:
        self._redis = redis
        self._ledger_of = ledger_of
        self._settings = settings
        self._registry = registry
        self._clock = clock
        self._restorer: Restorer | None = None
        self._called_back = False

    async def fill(self, lost: bool) -> None:  # noqa: FBT001 - a callback with a single argument
        """Deliver anew what the ledger knows as not over and Redis lacks, where it is time to look.

        Args:
            lost: whether Redis was found without the mark of an earlier sweep.

        Raises:
            Exception: what `Restorer.run_if_needed` raises: a store is away.
        """
        database = self._ledger_of().database
        if not self._called_back:
            # a worker that has just started may know what others did not
            await pull_forward(self._redis, database, self._settings, self._registry.specs.keys(), self._clock)
            self._called_back = True
        self._restorer = self._restorer or Restorer(self._redis, database, self._settings, self._clock)
        done = await self._restorer.run_if_needed(lost=lost)
        if done is not None and (done.delivered or done.lost or done.refused):
            logger.warning(
                "Redis had lost runs: %d of %d delivered anew, %d too large, %d lost for good, in %.0f ms",
                done.delivered,
                done.looked_at,
                done.refused,
                done.lost,
                done.took_ms,
            )
