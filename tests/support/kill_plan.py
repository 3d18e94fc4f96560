"""Where in a run its workers are killed: pure arithmetic on the steps that an uninterrupted run took.

Owns the spread: kills lie all over the run, at its start, in its chunks and at its end. Refuses to kill.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Self

from tests.support.kill_points import COMMIT, KillPoint, Moment
from worker.database.tables import ATTEMPTS

CLAIMING = 2
"""Steps of a claim before its COMMIT."""

EARLY = 0.1
"""The share of kills before the first chunk: each worker passes there, and progress is made elsewhere."""

LATEST_S = 0.004
"""How far into a step, in seconds, a worker is killed at most: most steps are over by then."""

ENDINGS = 2
"""Kills at a run's end, beyond those that are asked for: around its last transaction, and when that is committed but
the queue has not heard of it."""


@dataclass(frozen=True, slots=True)
class RunShape:
    """Where the steps of a run lie, counted from a worker's start.

    Attributes:
        claim: the first step of the claim.
        start: steps before the first chunk.
        chunk: steps of a chunk, on average.
        whole: all steps of a run on one worker.
    """

    claim: int
    start: int
    chunk: float
    whole: int

    @classmethod
    def of(cls, steps: Sequence[str], chunks: int) -> Self:
        """The shape of a run.

        Args:
            steps: those of a worker that did the run from its start to its end.
            chunks: how many it committed.
        """
        commits = [number for number, step in enumerate(steps, 1) if step == COMMIT]
        apart = [later - earlier for earlier, later in pairwise(commits[1:])]
        usual = int(median(apart)) if apart else commits[-1] - commits[0]
        chunk = (commits[-1] - commits[1]) / (chunks - 1) if chunks > 1 else float(usual)
        return cls(commits[0] - CLAIMING, max(commits[0], commits[1] - usual), chunk, len(steps))


@dataclass(frozen=True, slots=True)
class KillPlan:
    """The kills of one run, one worker's after the other's.

    Args:
        shape: of the run.
        kills: how many there must be.
        rand: chance; the same seed gives the same plan.
    """

    shape: RunShape
    kills: int
    rand: random.Random

    def next_point(self, kill: int, chunks: int) -> KillPoint | None:
        """Where the next worker is killed.

        Args:
            kill: how many were.
            chunks: how many chunks are committed: the worker does not do them again.

        Returns:
            None where it is to end by itself.
        """
        if kill >= self.kills + ENDINGS:
            return None
        if kill >= self.kills:
            return self._at_the_end(last=kill == self.kills + ENDINGS - 1)
        shape, rand = self.shape, self.rand
        if rand.random() < EARLY:
            return self._at(rand.randint(shape.claim, shape.start))
        # each in its own part of the run; the last chunk is left, so that the run cannot end before its kills
        length = shape.whole - shape.start - shape.chunk
        spread = rand.uniform(kill, kill + 1) / self.kills * length
        return self._at(max(shape.claim, round(shape.start + spread - shape.chunk * chunks)))

    def _at_the_end(self, *, last: bool) -> KillPoint:
        written, committed = 1, 2
        if last:
            return KillPoint(committed, Moment.AFTER, since=ATTEMPTS.name)
        number = self.rand.choice([written, committed])
        return self._at(number, [Moment.BEFORE, Moment.DURING], since=ATTEMPTS.name)

    def _at(self, number: int, moments: Sequence[Moment] = tuple(Moment), since: str = "") -> KillPoint:
        moment = self.rand.choice(moments)
        return KillPoint(number, moment, self.rand.uniform(0, LATEST_S) if moment is Moment.DURING else 0.0, since)
