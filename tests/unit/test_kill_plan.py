"""Where kills fall: in a modelled run of any shape, all of them come before its end, and they lie all over it."""

import random
from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from tests.support.kill_plan import ENDINGS, KillPlan, RunShape
from tests.support.kill_points import COMMIT, KillPoint, Moment


@dataclass(frozen=True)
class ModelledRun:
    """The steps of a run whose chunks all take as many: start-up, claim, preparation, chunks, end."""

    idle: int
    preparation: int
    chunks: int
    chunk_steps: int
    end_steps: int

    def steps(self, done: int = 0) -> list[str]:
        """The steps of a worker that begins when so many chunks are done."""
        chunk = ["work"] * (self.chunk_steps - 1) + [COMMIT]
        claim = ["limits", "claim", COMMIT]
        before = ["check"] * self.idle + claim + ["read"] * self.preparation
        return before + chunk * (self.chunks - done) + ["work"] * self.end_steps + ["end", COMMIT]

    def committed_by(self, done: int, kill: KillPoint) -> int | None:
        """How many chunks are done when the worker has died; None where it came to the run's end."""
        taken = kill.number - 1 if kill.moment is Moment.BEFORE else kill.number
        steps = self.steps(done)
        return None if taken >= len(steps) else done + max(0, steps[:taken].count(COMMIT) - 1)


RUNS = st.builds(
    ModelledRun,
    idle=st.integers(0, 8),
    preparation=st.integers(0, 12),
    chunks=st.integers(2, 80),
    chunk_steps=st.integers(3, 40),
    end_steps=st.integers(0, 6),
)


def play(run: ModelledRun, kills: int, seed: int) -> list[tuple[int, KillPoint]]:
    """The kills that were asked for, each with the chunks that were done when its worker began."""
    plan = KillPlan(RunShape.of(run.steps(), run.chunks), kills, random.Random(seed))
    done, points = 0, []
    for kill in range(kills):
        point = plan.next_point(kill, done)
        assert point is not None
        points.append((done, point))
        found = run.committed_by(done, point)
        assert found is not None, f"it ended after {kill} kills"
        done = found
    return points


@given(RUNS, st.integers(1, 40), st.integers())
def test_no_run_ends_before_its_kills(run: ModelledRun, kills: int, seed: int) -> None:
    """However a run is cut, each planned kill finds it unfinished."""
    play(run, kills, seed)


@given(st.integers())
def test_kills_lie_all_over_a_run(seed: int) -> None:
    """A long run has kills in each of its quarters, at every moment of a step."""
    run = ModelledRun(idle=3, preparation=2, chunks=60, chunk_steps=6, end_steps=1)
    points = play(run, 60, seed)
    assert set(Counter(done * 4 // run.chunks for done, _ in points)) == {0, 1, 2, 3}
    assert {point.moment for _, point in points} == set(Moment)


@given(RUNS, st.integers())
def test_a_seed_repeats_its_kills(run: ModelledRun, seed: int) -> None:
    """The same seed gives the same points."""
    assert play(run, 5, seed) == play(run, 5, seed)


def test_the_last_kill_comes_after_the_last_commit() -> None:
    """After the kills asked for, one comes around the last transaction and one when only the queue does not know."""
    run = ModelledRun(idle=3, preparation=2, chunks=10, chunk_steps=6, end_steps=1)
    plan = KillPlan(RunShape.of(run.steps(), run.chunks), 4, random.Random(1))
    around, last = (plan.next_point(4 + ending, 9) for ending in range(ENDINGS))
    assert around is not None
    assert around.moment is not Moment.AFTER
    assert last == KillPoint(2, Moment.AFTER, since="heavylift_attempts")
    assert plan.next_point(4 + ENDINGS, 9) is None


@given(st.builds(KillPoint, st.integers(1), st.sampled_from(Moment), st.just(0.25), st.text()))
def test_a_point_survives_the_environment(point: KillPoint) -> None:
    """What is written into a worker's environment is read there as it was."""
    assert KillPoint.parse(str(point)) == point
