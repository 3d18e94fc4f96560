"""arq's worker with a loop of its own: woken at once, few round trips, and never ended by Redis.

Owns arq's surface (constructor, counters, hooks, signals, health, cron) and how a worker ends. Keys, dictionaries and
log lines stay arq's. The loop itself is `loop`'s business, what is under way `in_flight`'s, what an end means
`execution`'s, the keys `scripts`'.
"""

import asyncio
import inspect
import logging
import math
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from arq.connections import create_pool, log_redis_info
from arq.worker import Worker
from redis.exceptions import RedisError

from worker.queue.cron_ticks import enqueue_due, is_first
from worker.queue.delivered import Delivered
from worker.queue.errands import Errands
from worker.queue.in_flight import NO_HOOKS, Hooks, InFlight
from worker.queue.leases import LeaseKeeper
from worker.queue.link import Link
from worker.queue.loop import Claiming, Loop
from worker.queue.redis_sync import synchronous
from worker.queue.restoring import Restoring
from worker.queue.step import MOST_ENDINGS, Reply
from worker.run.cancellation import heed_cancellation
from worker.run.stop_signal import StopSignal

BEAT_S: Final = 0.5
"""How often the health key and cron jobs are looked after, in seconds; arq queues a tick up to a second ahead."""

logger = logging.getLogger("worker.queue")
arq_logger = logging.getLogger("arq.worker")


class QueueWorker(Worker):
    """A worker on arq's wire.

    Args:
        args: arq's.
        lease_s: how long a dead worker's jobs stay its own, in seconds.
        stop: set at the first signal, where jobs can stop early.
        hooks: what the composition root adds to a delivery's way.
        restore: fills Redis again from elsewhere where that is due; told whether Redis has lost the marker.
        marker: that key; empty for none.
        keep_payloads: whether a claimed job's payload loses its expiry.
        end_s: how long jobs may take to end once they are cancelled, in seconds; what is left then is as if killed.
        kwargs: arq's.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - arq's own
        lease_s: float = 15.0,
        stop: StopSignal | None = None,
        hooks: Hooks = NO_HOOKS,
        restore: Callable[[bool], Coroutine[Any, Any, None]] | None = None,
        marker: str = "",
        keep_payloads: bool = False,
        end_s: float = 10.0,
        **kwargs: Any,  # noqa: ANN401 - arq's own
    ) -> None:
        super().__init__(*args, **kwargs)
        # arq derives it from the longest timeout of all functions, so that an orphan would wait for hours
        self.in_progress_timeout_s = lease_s
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._stop_signal = stop
        self._marker = marker
        self._keep_payloads = keep_payloads
        self._end_s = end_s
        self._changed = asyncio.Event()
        self._errands = Errands()
        self._restoring = None if restore is None else Restoring(restore, self._errands)
        self._leases = LeaseKeeper(lambda: synchronous(self.pool, lease_s / 4), self.holder, lease_s)
        self._in_flight = InFlight(self, hooks, self._leases, self._changed, self._first_of_its_tick, self._errands)
        self._loop: Loop | None = None
        self._serving = False
        self._said_health: bytes | None = None

    async def main(self) -> None:
        """Serve the queue until told to stop; in a burst until it is empty.

        Raises:
            asyncio.CancelledError: told to stop. What is under way then ends in `close`.
        """
        if self._pool is None:
            self._pool = await create_pool(
                self.redis_settings,
                job_deserializer=self.job_deserializer,
                job_serializer=self.job_serializer,
                default_queue_name=self.queue_name,
                expires_extra_ms=self.expires_extra_ms,
            )
        arq_logger.info("Starting worker for %d functions: %s", len(self.functions), ", ".join(self.functions))
        with suppress(RedisError, OSError):
            # a mere line in the log: an ACL may forbid it, and the loop deals with connections that are lost
            await log_redis_info(self.pool, arq_logger.info)
        self.ctx["redis"] = self.pool
        if self.on_startup:
            await self.on_startup(self.ctx)
        loop = self._own_loop()
        beating = None
        self._serving = True
        try:
            await self._beat_once()
            beating = asyncio.ensure_future(self._beat())
            await loop.serve(self.poll_delay_s, self._burst_is_over if self.burst else None)
            await self._errands.done()
        finally:
            self._serving = False
            if beating is not None:
                beating.cancel()
            if not self._in_flight.is_busy and not self._in_flight.has_endings:
                self._leases.stop()
                await loop.close()

    async def _burst_is_over(self, reply: Reply) -> bool:
        if self.tasks or self._in_flight.has_endings:
            return False
        if self._restoring is not None and not reply.marked and not self._restoring.done_once:
            # Redis may have lost runs: what the ledger knows of them is on its way, from here or from another worker
            return False
        queued = reply.queued or 0
        if queued == 0 or 0 <= self.max_burst_jobs <= self._jobs_started():
            return True
        aside = self._in_flight.aside
        if queued > len(aside):
            return False
        # what this worker cannot run stays in the queue for one that can, which may have taken it meanwhile
        scores = await asyncio.gather(*(self.pool.zscore(self.queue_name, run_id) for run_id in aside))
        return queued <= sum(score is not None for score in scores)

    def _free_slots(self) -> int:
        if not self.allow_pick_jobs:
            return 0
        free = min(self.max_jobs - len(self.tasks), self.queue_read_limit)
        if self.burst and self.max_burst_jobs >= 0:
            free = min(free, self.max_burst_jobs - self._jobs_started())
        return max(0, free)

    def _own_loop(self) -> Loop:
        """The loop, made when the pool is there."""
        if self._loop is None:
            link = Link(self.pool, self.queue_name, self._marker, self._changed)
            claiming = Claiming(self.holder, self.in_progress_timeout_s, self._keep_payloads)
            self._loop = Loop(link, self._in_flight, claiming, self._changed, self._free_slots, self._marker_lost)
        return self._loop

    async def _poll_iteration(self) -> None:
        """One step and one beat by hand, as arq's own name for it does; what it starts is seen to its end."""
        loop = self._own_loop()
        await loop.step(self._in_flight.endings(MOST_ENDINGS))
        if not self._serving:
            self._errands.send(loop.write_endings(math.inf, until_idle=True), "writing how jobs ended")
        await self.heart_beat()

    async def start_jobs(self, job_ids: list[bytes]) -> None:  # noqa: ARG002 - arq's signature
        """Claim and start what is due. Which of the queue's jobs those are is the step's to find.

        Args:
            job_ids: arq's argument; it chooses nothing.
        """
        await self._poll_iteration()

    def handle_sig(self, signum: signal.Signals) -> None:
        """Cancel what is under way, and the loop; none of it counts as a try."""
        self._in_flight.stopping = True
        super().handle_sig(signum)

    def handle_sig_wait_for_completion(self, signum: signal.Signals) -> None:
        """The first signal lets jobs end, or stop where they can; a second one cancels them where they are."""
        if not self.allow_pick_jobs:
            self.handle_sig(signum)
            return
        self._in_flight.stopping = True
        if self._stop_signal is not None:
            self._stop_signal.set()
        super().handle_sig_wait_for_completion(signum)
        self._changed.set()

    async def close(self) -> None:
        """End what is under way, tell Redis, run the shutdown hook and give the connections up."""
        if not self._handle_signals:
            self.handle_sig(signal.SIGUSR1)
        if self._pool is None:
            return
        try:
            await self._end()
        finally:
            try:
                if self.on_shutdown:
                    await self.on_shutdown(self.ctx)
            finally:
                with suppress(RedisError, OSError):
                    await self.pool.aclose(close_connection_pool=True)
                self._pool = None

    async def _end(self) -> None:
        self._in_flight.stopping = True
        if self._loop is not None:
            await self._loop.write_endings(self._end_s, until_idle=True)
            await self._loop.close()
        await self._errands.stop()
        self._leases.stop()
        with suppress(RedisError, OSError):
            # the key is the queue's, not one worker's: another one may have written it since
            if self._said_health is not None and await self.pool.get(self.health_check_key) == self._said_health:
                await self.pool.delete(self.health_check_key)

    async def _beat(self) -> None:
        while True:
            heed_cancellation()
            await asyncio.sleep(BEAT_S)
            await self._beat_once()
            if self._restoring is not None:
                self._restoring.try_soon(lost=False)

    def _marker_lost(self) -> None:
        if self._restoring is not None:
            self._restoring.try_soon(lost=True)

    async def _beat_once(self) -> None:
        try:
            await self.heart_beat()
        except (RedisError, OSError) as error:
            # the loop notices by itself, and says so
            logger.debug("no heart beat: %s", error)

    async def record_health(self) -> None:
        """arq's, and remember what was said. Anew where the key is gone: a worker that ended took it along."""
        if self._said_health is not None and not await self.pool.exists(self.health_check_key):
            self._last_health_check = 0.0
        said = self._last_health_check
        await super().record_health()
        if self._last_health_check != said:
            self._said_health = await self.pool.get(self.health_check_key)

    async def run_cron(self, n: datetime, delay: float, num_windows: int = 2) -> None:
        """Enqueue the ticks that are due soon. One that could not be enqueued is tried again at the next beat.

        Args:
            n: now, aware.
            delay: a window's length, in seconds.
            num_windows: how many windows ahead ticks are enqueued.
        """
        until = n + timedelta(seconds=delay * num_windows)
        for job in self.cron_jobs:
            await enqueue_due(self.pool, job, self.queue_name, n, until)

    async def _first_of_its_tick(self, delivered: Delivered) -> bool:
        try:
            return await is_first(self.pool, delivered)
        except (RedisError, OSError):
            # rather a tick twice, which needs a late enqueueing as well, than none
            return True

    def _jobs_started(self) -> int:
        # a job that has ended and been counted is still a task while its hooks run
        return super()._jobs_started() - self._in_flight.winding_up


_ARQ = inspect.signature(Worker)
_OURS = inspect.signature(QueueWorker)
# arq takes those members of a settings class that its worker's signature names
QueueWorker.__signature__ = _ARQ.replace(  # type: ignore[attr-defined] # a documented hook of inspect
    parameters=[
        *_ARQ.parameters.values(),
        *(one for one in _OURS.parameters.values() if one.kind is inspect.Parameter.KEYWORD_ONLY),
    ]
)
