"""What goes wrong on a wire by chance: the same with the same seed, and nothing before the first COMMIT."""

import random

from hypothesis import given
from hypothesis import strategies as st

from tests.support.fault_plan import FaultsByChance


def played(plan: FaultsByChance) -> list[object]:
    """What becomes of some COMMITs and the pieces between them."""
    return [(plan.at_commit(number), plan.latency_s(), plan.cut_at(9_000)) for number in range(60)]


@given(st.integers())
def test_a_seed_repeats_its_faults(seed: int) -> None:
    """The same seed gives the same faults, and some of them."""
    first, again = (FaultsByChance(random.Random(seed), commits=0.5) for _ in range(2))
    assert played(first) == played(again)
    assert first.told


def test_nothing_happens_before_the_first_commit() -> None:
    """A client that connects and looks around is left alone."""
    plan = FaultsByChance(random.Random(1), bytes_a_cut=1, slow=1.0)
    assert [(plan.latency_s(), plan.cut_at(10_000)) for _ in range(50)] == [(0.0, None)] * 50
    plan.at_commit(1)
    assert plan.latency_s() > 0
    assert plan.cut_at(10_000) is not None
