"""The brake: holds one run between two chunks while the database is under pressure, and says why in its record.

Owns the pauses of a run and what its record says of them. Holds no transaction and no connection meanwhile, and obeys
whoever asks the run to stop. Refuses to judge pressure: `worker.core.pressure` does.
"""

from datetime import timedelta
from types import TracebackType
from typing import Self

from sqlalchemy import Table

from worker.core.clock import Clock
from worker.core.errors import Snooze, Stop
from worker.core.events import Listener, RunHeld, RunReleased
from worker.core.outcomes import Status
from worker.core.pressure import Go, Slow, Wait
from worker.database.claims import Claimed
from worker.database.ledger import Ledger
from worker.run.governor import PERIOD_S, Governor
from worker.run.stop_signal import StopSignal

TOLD_AFTER_MS = 900.0
"""How long pressure must last before the record tells of it, in milliseconds: some is gone with the next reading."""


class Brake:
    """The brake of a claimed run; an async context manager.

    Args:
        claimed: the run.
        governor: says how the database is; None leaves the run alone.
        ledger: where the run's record is.
        stop: whether this worker is stopping.
        clock: measures holds.
        emit: told of what the record is told.
    """

    def __init__(
        self,
        claimed: Claimed,
        governor: Governor | None,
        ledger: Ledger,
        stop: StopSignal,
        clock: Clock,
        emit: Listener,
    ) -> None:
        self._claimed = claimed
        self._governor = governor
        self._ledger = ledger
        self._stop = stop
        self._clock = clock
        self._emit = emit
        self._tables: set[str] = set()
        self._follows = False
        self._pressed_ms: float | None = None
        self._told: tuple[Status, str] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._governor is not None and self._follows:
            await self._governor.leave()

    def works_on(self, table: Table) -> None:
        """Hold the run for this table's sake too."""
        self._tables.add(table.fullname)

    async def ease(self, took_ms: float) -> None:
        """Between two chunks: return at once, after a pause, or when the database has air again.

        Args:
            took_ms: how long the last chunk took, in milliseconds; 0 where there was none in this attempt.

        Raises:
            Stop: the run is to stop at its cursor.
            Snooze: the pressure lasts, and the run frees the worker.
            StaleFenceError: a newer claim holds the run.
        """
        if self._governor is None:
            return
        if not self._follows:
            # not before its second chunk: a run of one costs nothing
            self._governor.follow()
            self._follows = True
        await self._until_eased(self._governor, took_ms)

    async def _until_eased(self, governor: Governor, took_ms: float) -> None:
        began = self._clock.monotonic_ms()
        while True:
            match await governor.verdict(self._tables):
                case Go():
                    await self._release()
                    return
                case Slow(reason) as slow:
                    await self._press(Status.RUNNING, f"slowed down, {reason}")
                    await self._pause(slow.pause_ms(took_ms))
                    return
                case Wait(reason):
                    await self._press(Status.WAITING, reason)
                    if self._clock.monotonic_ms() - began >= governor.hold_s * 1000:
                        # spread, so that runs held for one reason do not all come back at once
                        seconds = governor.snooze_s * (0.75 + self._clock.rand() / 2)
                        raise Snooze(timedelta(seconds=seconds), f"governor: {reason}")
                    await self._pause(PERIOD_S * 1000)

    async def _press(self, status: Status, reason: str) -> None:
        """Note that there is pressure, and tell of it once it lasts."""
        now = self._clock.monotonic_ms()
        self._pressed_ms = now if self._pressed_ms is None else self._pressed_ms
        # what is wanted of a slowed run its chunks hear; one that waits has to ask
        news = self._told != (status, reason) or status is Status.WAITING
        if not news or now - self._pressed_ms < TOLD_AFTER_MS:
            return
        await self._tell(status, f"governor: {reason}")
        if self._told is None or self._told[0] is not status:
            self._emit(RunHeld(self._claimed.fence.run_id, self._claimed.job, reason, status is Status.WAITING))
        self._told = (status, reason)

    async def _release(self) -> None:
        """Note that there is no pressure, and take back what was told."""
        if self._told is not None and self._pressed_ms is not None:
            await self._tell(Status.RUNNING, None)
            held_ms = self._clock.monotonic_ms() - self._pressed_ms
            self._emit(RunReleased(self._claimed.fence.run_id, self._claimed.job, held_ms))
        self._told = self._pressed_ms = None

    async def _tell(self, status: Status, waiting_for: str | None) -> None:
        self._stop.stop_where_asked(await self._ledger.tell(self._claimed.fence, status, waiting_for))

    async def _pause(self, pause_ms: float) -> None:
        if pause_ms > 0 and await self._stop.sleep(pause_ms / 1000):
            raise Stop("interrupt")
