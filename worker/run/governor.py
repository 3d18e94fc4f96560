"""The governor: one look a second at the database, for all the runs of a worker together.

Owns when the database is looked at, and which indicators still count. Refuses to judge what it reads
(`worker.core.pressure` does) and to hold a run (`worker.run.brake` does).
"""

import asyncio
from collections.abc import Collection

from worker.core.clock import Clock
from worker.core.events import IndicatorLeftOut, Listener
from worker.core.pressure import Indicator, Measure, Reading, Unread, Verdict, judge, settle, unreadable
from worker.core.settings import Settings
from worker.database.classify import describe
from worker.database.engine import Database

PERIOD_S = 1.0
"""How long a reading serves, in seconds."""

LOOK_S = 5.0
"""How long a look may take in all, in seconds: a server that does not even refuse must not keep runs for ever."""


class Governor:
    """Reads the pressure on a database while runs of a worker are between their first chunk and their end.

    It looks at its own pace rather than when a run asks: what waits behind a chunk's locks can be seen only while
    the chunk is under way, and a run need not wait for a reading.

    Args:
        database: the worker's. A connection is borrowed for each look.
        settings: what to look at, and the limits.
        clock: tells how old a reading is.
        emit: told of an indicator that is left out.
        hold_s: how long a run is held in place before it frees the worker, in seconds.
        snooze_s: for about how long it then goes back to the queue, in seconds.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        clock: Clock,
        emit: Listener,
        *,
        hold_s: float = 30.0,
        snooze_s: float = 60.0,
    ) -> None:
        self.hold_s = hold_s
        self.snooze_s = snooze_s
        self._database = database
        self._limits = settings.limits
        self._clock = clock
        self._emit = emit
        self._indicators = list(settings.governor)
        self._worked: set[Indicator] = set()
        self._reading = Reading()
        self._taken_ms: float | None = None
        self._looking = asyncio.Lock()
        self._followers = 0
        self._following: asyncio.Task[None] | None = None

    async def verdict(self, tables: Collection[str]) -> Verdict:
        """What a run that works on these tables is to do next; its reading is made first where there is none yet."""
        return judge(await self.latest(), self._limits, tables)

    async def latest(self) -> Reading:
        """The reading that serves now."""
        # only the first is waited for: while runs follow, the next one is made in time
        await self._look_if_older(2 * PERIOD_S)
        return self._reading

    def follow(self) -> None:
        """Begin to look once a second, for one more run; each call is answered by one of `leave`."""
        self._followers += 1
        if self._following is None:
            self._following = asyncio.create_task(self._keep_looking())

    async def leave(self) -> None:
        """One run follows no more; after the last one nothing is looked at."""
        self._followers -= 1
        if self._followers or self._following is None:
            return
        following, self._following = self._following, None
        try:
            # a look under way may end: cut off, it would cost its connection
            async with self._looking:
                pass
        finally:
            following.cancel()
        await asyncio.wait([following])

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_S)
            await self._look_if_older(PERIOD_S)

    async def _look_if_older(self, seconds: float) -> None:
        if self._is_younger(seconds):
            return
        async with self._looking:
            # somebody else may have looked meanwhile
            if not self._is_younger(seconds):
                self._reading = await self._look()
                self._taken_ms = self._clock.monotonic_ms()

    def _is_younger(self, seconds: float) -> bool:
        return self._taken_ms is not None and self._clock.monotonic_ms() - self._taken_ms < seconds * 1000

    async def _look(self) -> Reading:
        try:
            async with asyncio.timeout(LOOK_S):
                found = await self._read()
        except TimeoutError:
            return unreadable(f"no answer within {LOOK_S:g} s", self._worked)
        except self._database.raises as error:
            said = describe(error)
            return unreadable(f"{said.type}: {said.message}", self._worked)
        reading, left_out = settle(found, self._worked)
        self._worked.update(measure.indicator for measure in reading.measures)
        for one in left_out:
            self._indicators.remove(one.indicator)
            self._emit(IndicatorLeftOut(one.indicator, one.error))
        return reading

    async def _read(self) -> list[Measure | Unread]:
        if not self._indicators:
            return []
        async with self._database.reading() as connection:
            return await self._database.dialect.read_pressure(connection, self._indicators)
