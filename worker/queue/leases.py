"""Leases: who should work on a run, for how long, and their renewal from a thread of its own.

Owns `arq:in-progress:<id>` while a run is under way: it holds the worker's name, lives for a lease and is renewed for
all runs in one call. The thread has a connection of its own, so that a job that blocks the event loop keeps its lease
while its process lives, but not past its own timeout. Refuses to decide who may commit: that is the fence's business.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from redis import Redis
from redis.exceptions import RedisError

from worker.queue.scripts import RENEW

RENEWALS: Final = 3
"""How often a lease is renewed within its length: two renewals may fail."""

logger = logging.getLogger("worker.queue")


class LeaseKeeper:
    """Renews a worker's leases until it is stopped.

    Args:
        connect: opens a connection of the thread's own; its timeouts must be shorter than a lease.
        holder: the worker's name in its leases.
        lease_s: a lease's length, in seconds.
    """

    def __init__(self, connect: Callable[[], Redis], holder: str, lease_s: float) -> None:
        self._connect = connect
        self._holder = holder
        self._lease_s = lease_s
        # run id to the moment, on the monotonic clock, from which its lease is left to lapse
        self._held: dict[str, float] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def hold(self, run_id: str, timeout_s: float | None) -> None:
        """Renew a lease from now on.

        Args:
            run_id: the run, just claimed.
            timeout_s: how long it may take, in seconds: later its lease lapses, even if it is stuck. None for no end.
        """
        self._held[run_id] = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        if self._thread is None:
            self._stopped.clear()
            self._thread = threading.Thread(target=self._renew_until_stopped, name="heavylift-leases", daemon=True)
            self._thread.start()

    def drop(self, run_id: str) -> None:
        """Renew a lease no more. It is released by whoever writes the run's end."""
        self._held.pop(run_id, None)

    def stop(self) -> None:
        """End the thread; leases that are still held lapse."""
        self._stopped.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(self._lease_s)

    def _renew_until_stopped(self) -> None:
        redis: Redis | None = None
        while not self._stopped.wait(self._lease_s / RENEWALS):
            # a copy: the event loop's thread goes on changing it. dict.copy holds the interpreter's lock throughout
            held = self._held.copy()
            now = time.monotonic()
            ids = [run_id for run_id, until in held.items() if now < until]
            if not ids:
                continue
            try:
                redis = redis or self._connect()
                lost: list[bytes] = redis.execute_command(
                    "EVAL", RENEW, 0, self._holder, round(self._lease_s * 1000), *ids
                )
            except (RedisError, OSError) as error:
                # nothing is lost by it: runs go on while no newer claim fences them off
                logger.warning("leases could not be renewed: %s: %s", type(error).__name__, error)
                continue
            if lost:
                logger.warning("leases lost to another worker: %s", ", ".join(run_id.decode() for run_id in lost))
                for run_id in lost:
                    self._held.pop(run_id.decode(), None)
        if redis is not None:
            redis.close()
