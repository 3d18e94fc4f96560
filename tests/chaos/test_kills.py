"""Every job, killed again and again at random points: nothing is done twice, and nothing is left out.

HEAVYLIFT_SEED chooses the points, HEAVYLIFT_KILLS how many there are.
"""

import os
from operator import attrgetter

import pytest

from tests.support.chaos_size import SEED, sized
from tests.support.kill_scenarios import BROKEN, BROKEN_BY_TWO_WRITERS, SCENARIOS
from tests.support.killed_runs import Comparison, compare_killed
from tests.support.played_runs import KillScenario, Place

ON = sized("postgresql", "postgresql sqlite mariadb").split()
MATRIX = "it takes long, and the matrix of kills at the boundaries of statements is tried on each database all the same"

pytestmark = [pytest.mark.chaos, pytest.mark.only_on(*ON, why=MATRIX)]

KILLS = int(os.environ.get("HEAVYLIFT_KILLS", "20"))
named = attrgetter("name")


def check(found: Comparison) -> None:
    """Both runs have left the same behind."""
    assert found.whole.record["status"] == "succeeded"
    assert found.killed.differences(found.whole) == [], found.story


@pytest.mark.parametrize("scenario", SCENARIOS, ids=named)
async def test_killed_at_random_points(scenario: KillScenario, place: Place) -> None:
    """A run whose workers are killed leaves tables, audit rows, counts and files as an uninterrupted one does."""
    check(await compare_killed(scenario, place, SEED, KILLS))


async def must_be_caught(scenario: KillScenario, place: Place) -> None:
    """A broken job's tables tell, and nothing else."""
    found = await compare_killed(scenario, place, SEED, KILLS)
    with pytest.raises(AssertionError, match=f"HEAVYLIFT_SEED={SEED}"):
        check(found)
    assert found.killed.record == found.whole.record
    assert found.killed.tables != found.whole.tables


@pytest.mark.parametrize("scenario", BROKEN, ids=named)
async def test_a_broken_job_is_caught(scenario: KillScenario, place: Place) -> None:
    """A job that does more, or less, than its cursor says cannot pass for a right one."""
    await must_be_caught(scenario, place)


@pytest.mark.only_on("postgresql", "mariadb", why="SQLite has one writer at a time")
@pytest.mark.parametrize("scenario", BROKEN_BY_TWO_WRITERS, ids=named)
async def test_a_job_that_writes_apart_is_caught(scenario: KillScenario, place: Place) -> None:
    """Likewise, one whose rows commit before its cursor does."""
    await must_be_caught(scenario, place)
