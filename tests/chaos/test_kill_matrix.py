"""Every job, killed once at each boundary between two of its statements: it ends as if nothing had happened."""

from operator import attrgetter

import pytest

from tests.support.chaos_size import chance, sized
from tests.support.kill_matrix import KillMatrix, boundaries
from tests.support.kill_scenarios import BROKEN, BROKEN_BY_TWO_WRITERS, SCENARIOS
from tests.support.played_runs import KillScenario, Place

pytestmark = [pytest.mark.storm, pytest.mark.timeout(1800)]

AT_MOST = sized(5, 100_000)
"""Boundaries of each job, at most; chosen by chance where there are more."""


@pytest.mark.parametrize("scenario", SCENARIOS, ids=attrgetter("name"))
async def test_killed_at_a_boundary(scenario: KillScenario, place: Place) -> None:
    """Wherever its worker dies, the run leaves tables, audit rows, counts and files as an uninterrupted one does."""
    rand = chance(f"boundaries of {scenario.name}")
    matrix = await KillMatrix.trace(scenario, place)
    assert matrix.whole.record["status"] == "succeeded"
    points = boundaries(matrix.steps, rand)
    chosen = rand.sample(points, min(AT_MOST, len(points)))
    for point in chosen:
        found = await matrix.killed_at(point)
        assert found.killed.differences(found.whole) == [], found.story
    print(f"{scenario.name}: killed at {len(chosen)} of {len(points)} points of {len(matrix.steps)} steps")


async def must_be_caught(scenario: KillScenario, place: Place) -> None:
    """At some boundary a broken job leaves something else behind."""
    rand = chance(f"boundaries of {scenario.name}")
    matrix = await KillMatrix.trace(scenario, place)
    points = boundaries(matrix.steps, rand)
    for point in rand.sample(points, len(points)):
        found = await matrix.killed_at(point)
        if found.killed.differences(found.whole):
            return
    pytest.fail(f"{scenario.name} ended as if it were right, killed at each of {len(points)} points")


@pytest.mark.parametrize("scenario", BROKEN, ids=attrgetter("name"))
async def test_a_broken_job_is_caught(scenario: KillScenario, place: Place) -> None:
    """A job that does more, or less, than its cursor says is told from a right one at some boundary."""
    await must_be_caught(scenario, place)


@pytest.mark.only_on("postgresql", "mariadb", why="SQLite has one writer at a time")
@pytest.mark.parametrize("scenario", BROKEN_BY_TWO_WRITERS, ids=attrgetter("name"))
async def test_a_job_that_writes_apart_is_caught(scenario: KillScenario, place: Place) -> None:
    """Likewise, one whose rows commit before its cursor does."""
    await must_be_caught(scenario, place)
