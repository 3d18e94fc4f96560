"""Every job, over a wire that loses COMMITs and their replies, holds them back, is slow, and is cut at any byte."""

from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Self

import pytest

from tests.support.chaos_size import chance, sized
from tests.support.databases import copy_of
from tests.support.fault_plan import FaultPlan, FaultsByChance
from tests.support.fault_proxy import FaultProxy
from tests.support.kill_scenarios import BROKEN, BROKEN_BY_TWO_WRITERS, SCENARIOS
from tests.support.played_runs import KillScenario, Place, Play
from tests.support.snapshots import Snapshot
from worker.core.retry import IN_PLACE_TRIES

pytestmark = [
    pytest.mark.storm,
    pytest.mark.timeout(1800),
    pytest.mark.only_on("postgresql", "mariadb", why="there is no wire to SQLite"),
]

ROWS, ROUNDS = sized(160, 300), sized(1, 3)
ENOUGH = 20
"""Rounds after which a broken job must have been caught."""

PATIENT = {"WORKER_BACKOFF_BASE_S": "0.05"}
"""A claim that failed is made again soon."""


@dataclass(frozen=True, slots=True)
class Wire:
    """A scenario, done over a good wire on a copy of its database."""

    play: Play
    whole: Snapshot

    @classmethod
    async def good(cls, scenario: KillScenario, place: Place) -> Self:
        """Play it there."""
        play = Play(replace(scenario, rows=ROWS), place, PATIENT)
        await play.prepare()
        async with copy_of(place.environment["DATABASE_URL"]) as copy, play.client(copy) as client:
            await play.work(client)
            return cls(play, await play.snapshot(client))

    async def bad(self, plan: FaultPlan) -> Snapshot:
        """Play it over a bad one."""
        play, url = self.play, self.play.place.environment["DATABASE_URL"]
        async with FaultProxy(url, plan) as proxy, copy_of(url) as copy, play.client(copy) as client:
            await play.work(client, through=proxy.url(copy))
            assert await play.left_in_redis() == []
            return await play.snapshot(client)


def faults(scenario: KillScenario, turn: int) -> FaultsByChance:
    """What goes wrong in one round."""
    return FaultsByChance(chance(f"{scenario.name} over a bad wire {turn}"), latest_s=0.5)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=attrgetter("name"))
async def test_a_run_over_a_bad_wire(scenario: KillScenario, place: Place) -> None:
    """Whatever the wire does, the run succeeds, and leaves what it leaves over a good one.

    An attempt more is only for so many faults in a row as end one: fewer are made good within it.
    """
    wire = await Wire.good(scenario, place)
    assert wire.whole.record["status"] == "succeeded"
    assert wire.whole.record["attempts"] == 1
    for turn in range(ROUNDS):
        plan = faults(scenario, turn)
        found = await wire.bad(plan)
        attempts = found.record["attempts"]
        print(f"{scenario.name}: {plan.told}, {attempts} attempts")
        once = replace(found, record={**found.record, "attempts": 1})
        assert once.differences(wire.whole) == [], f"round {turn}, after {plan.told}"
        assert isinstance(attempts, int)
        assert (attempts - 1) * (IN_PLACE_TRIES + 1) <= plan.lost, f"{attempts} attempts, after {plan.told}"


@pytest.mark.parametrize("scenario", [*BROKEN, *BROKEN_BY_TWO_WRITERS], ids=attrgetter("name"))
async def test_a_broken_job_is_caught(scenario: KillScenario, place: Place) -> None:
    """A job that does more, or less, than its cursor says is told from a right one after some faults."""
    wire = await Wire.good(scenario, place)
    for turn in range(ENOUGH):
        if (await wire.bad(faults(scenario, turn))).differences(wire.whole):
            return
    pytest.fail(f"{scenario.name} ended as if it were right, {ENOUGH} times")
