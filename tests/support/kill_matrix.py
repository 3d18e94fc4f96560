"""A run killed once at each boundary between two of its steps, each time on a copy of the same database.

Owns the list of the boundaries, taken from the steps of a run that nobody killed, and the way through one of them.
Refuses to judge.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from tests.support.databases import copy_of
from tests.support.kill_plan import LATEST_S
from tests.support.kill_points import COMMIT, KillPoint, Moment
from tests.support.killed_runs import Comparison
from tests.support.played_runs import KillScenario, Place, Play
from tests.support.snapshots import Snapshot

ROWS = 48
"""Of a scenario: what has a refused row after every few takes many steps for each of them."""

SETTINGS: Mapping[str, str] = {
    "WORKER_CHUNK_START_ROWS": "16",
    "WORKER_CHUNK_MIN_ROWS": "16",
    "WORKER_CHUNK_MAX_ROWS": "16",
    # it reads once a second, so that no two runs would have the same steps
    "WORKER_GOVERNOR": "off",
}


def boundaries(steps: Sequence[str], rand: random.Random) -> list[KillPoint]:
    """Where a run can be cut: before each step, after the last one, and during each that makes something last.

    Args:
        steps: those of a worker that did the run from its start to its end.
        rand: how far into a step.
    """
    numbered = list(enumerate(steps, 1))
    lasting = [number for number, step in numbered if step == COMMIT or step.startswith("os.")]
    return [
        *(KillPoint(number, Moment.BEFORE) for number, _ in numbered),
        *(KillPoint(number, Moment.DURING, rand.uniform(0, LATEST_S)) for number in lasting),
        KillPoint(len(steps), Moment.AFTER),
    ]


@dataclass(frozen=True, slots=True)
class KillMatrix:
    """A run of few rows, done once without any kill.

    Attributes:
        play: of the run.
        steps: it took.
        whole: what it has left behind.
    """

    play: Play
    steps: Sequence[str]
    whole: Snapshot

    @classmethod
    async def trace(cls, scenario: KillScenario, place: Place) -> Self:
        """Play a scenario with few rows, without any kill."""
        play = Play(replace(scenario, rows=ROWS), place, SETTINGS)
        await play.prepare()
        async with copy_of(place.environment["DATABASE_URL"]) as copy, play.client(copy) as client:
            await play.work(client)
            return cls(play, play.steps, await play.snapshot(client))

    async def killed_at(self, point: KillPoint) -> Comparison:
        """Play it again, with one kill, and have another worker go on.

        Raises:
            AssertionError: the run ended without its kill, or Redis still holds something of it.
        """
        play = self.play
        async with copy_of(play.place.environment["DATABASE_URL"]) as copy, play.client(copy) as client:
            assert await play.work(client, point), f"the run ended before {point}: it had {len(play.steps)} steps"
            story = f"killed at {point}, {play.steps[-1]}"
            await play.work(client)
            left = await play.left_in_redis()
            assert not left, f"{story}: Redis still holds {left}"
            return Comparison(self.whole, await play.snapshot(client), story)
