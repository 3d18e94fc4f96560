"""arq's worker with a lease a run: short, renewed while its process lives, so that a dead worker's runs move on soon.

Owns leases, signals and the end of the process. The fence in the database, not the lease, decides who may commit.
"""

import asyncio
import logging
import signal
from contextlib import suppress
from typing import Any

from arq.constants import in_progress_key_prefix
from arq.worker import Worker
from redis.exceptions import RedisError

from worker.queue.functions import ABANDONED
from worker.run.stop_signal import StopSignal


def _is_news(record: logging.LogRecord) -> bool:
    # arq's lines on a run's start and end all begin with its seconds; our events say the same, and without parameters
    return not str(record.msg).startswith("%6.2fs")


logging.getLogger("arq.worker").addFilter(_is_news)


class LeaseWorker(Worker):
    """A worker whose `arq:in-progress:<id>` keys live for a lease and are renewed.

    Args:
        lease_s: a lease's length, in seconds.
        stop: set at the first signal: runs stop at their next chunk boundary.
        kwargs: `arq.worker.Worker`'s own.
    """

    def __init__(self, *args: Any, lease_s: float, stop: StopSignal, **kwargs: Any) -> None:  # noqa: ANN401 - arq's own
        super().__init__(*args, **kwargs)
        # arq derives it from the longest timeout of all functions, so that an orphan would wait for hours
        self.in_progress_timeout_s = lease_s
        self._stop_signal = stop
        self.abandoned: set[str] = set()
        self.ctx[ABANDONED] = self.abandoned

    async def main(self) -> None:
        """Arq's loop, with leases renewed beside it."""
        renewing = asyncio.ensure_future(self._renew_leases())
        try:
            await super().main()
        finally:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing

    async def _renew_leases(self) -> None:
        while True:
            await asyncio.sleep(self.in_progress_timeout_s / 3)
            if self._pool is None or not self.tasks:
                continue
            with suppress(RedisError, OSError):
                # a lease that could not be renewed may lapse: then another claim fences this worker off, nothing more
                async with self.pool.pipeline(transaction=False) as pipe:
                    for run_id in list(self.tasks):
                        pipe.pexpire(in_progress_key_prefix + run_id, int(self.in_progress_timeout_s * 1000))
                    await pipe.execute()

    async def finish_job(self, job_id: str, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - arq's own
        """arq's, except for a run that a newer claim holds: all its keys are that claim's business."""
        if job_id in self.abandoned:
            self.abandoned.discard(job_id)
            return
        await super().finish_job(job_id, *args, **kwargs)

    def handle_sig_wait_for_completion(self, signum: signal.Signals) -> None:
        """The first signal asks runs to stop at a chunk boundary; a second one cancels them where they are."""
        if self._stop_signal.is_set:
            self.handle_sig(signum)
            return
        self._stop_signal.set()
        super().handle_sig_wait_for_completion(signum)

    async def close(self) -> None:
        """arq's, except that one run's end cannot keep the others, or the shutdown hook, from theirs."""
        if not self._handle_signals:
            self.handle_sig(signal.SIGUSR1)
        if self._pool is None:
            return
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        with suppress(RedisError, OSError):
            await self.pool.delete(self.health_check_key)
        if self.on_shutdown:
            await self.on_shutdown(self.ctx)
        with suppress(RedisError, OSError):
            await self.pool.aclose(close_connection_pool=True)
        self._pool = None
