"""Every job, killed again and again at random points: nothing is done twice, and nothing is left out.

HEAVYLIFT_SEED chooses the points, HEAVYLIFT_KILLS how many there are.
"""

import os
from operator import attrgetter
from pathlib import Path

import pytest

from tests.support.forge import Forge
from tests.support.kill_scenarios import BROKEN, SCENARIOS
from tests.support.killed_runs import Comparison, KillScenario, Place, compare_killed

pytestmark = pytest.mark.chaos

KILLS = int(os.environ.get("HEAVYLIFT_KILLS", "20"))
SEED = os.environ.get("HEAVYLIFT_SEED", "20")
named = attrgetter("name")


@pytest.fixture
def place(forge: Forge, environment: dict[str, str], tmp_path: Path) -> Place:
    """This test's database, Redis and folder."""
    return Place(forge, environment, tmp_path)


def check(found: Comparison) -> None:
    """Both runs have left the same behind."""
    assert found.whole.record["status"] == "succeeded"
    assert found.killed.differences(found.whole) == [], found.story


@pytest.mark.parametrize("scenario", SCENARIOS, ids=named)
async def test_killed_at_random_points(scenario: KillScenario, place: Place) -> None:
    """A run whose workers are killed leaves tables, audit rows, counts and files as an uninterrupted one does."""
    check(await compare_killed(scenario, place, SEED, KILLS))


@pytest.mark.parametrize("scenario", BROKEN, ids=named)
async def test_a_broken_job_is_caught(scenario: KillScenario, place: Place) -> None:
    """A job that does more, or less, than its cursor says cannot pass for a right one."""
    found = await compare_killed(scenario, place, SEED, KILLS)
    with pytest.raises(AssertionError, match=f"HEAVYLIFT_SEED={SEED}"):
        check(found)
    assert found.killed.record == found.whole.record
    assert found.killed.tables != found.whole.tables
