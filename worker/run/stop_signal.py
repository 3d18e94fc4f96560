"""The wish that this worker stop: set once, seen by every run at its next chunk boundary."""

import asyncio

from worker.core.errors import Stop
from worker.run.cancellation import heed_cancellation


class StopSignal:
    """Set from a signal handler or a test; awaited by whoever sleeps, looked at by whoever works."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Ask every run to stop at its next chunk boundary."""
        self._event.set()

    @property
    def is_set(self) -> bool:
        """Whether the worker was asked to stop."""
        return self._event.is_set()

    async def sleep(self, seconds: float) -> bool:
        """Sleep, but no longer than until the worker is asked to stop; returns whether it was."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        return True

    def stop_where_asked(self, wanted: str | None) -> None:
        """Stop a run between two chunks, where a person or this worker's end asks for it.

        Args:
            wanted: `pause` or `cancel` where a person asked for it.

        Raises:
            Stop: the run is to stop at its cursor.
            asyncio.CancelledError: its task was told to end, and has not heard of it.
        """
        heed_cancellation()
        if wanted == "cancel":
            raise Stop("cancel")
        if wanted == "pause":
            raise Stop("pause")
        if self.is_set:
            raise Stop("interrupt")
