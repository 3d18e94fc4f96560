"""A run whose workers are killed again and again, beside an uninterrupted one on a copy of the same database.

Owns both runs and the story of the kills. Refuses to judge: whether the two have left the same behind is for a test to
assert, with the story as its message.
"""

import random
from dataclasses import dataclass

from tests.support.databases import copy_of
from tests.support.kill_plan import KillPlan, RunShape
from tests.support.played_runs import KillScenario, Place, Play, count_chunks
from tests.support.snapshots import Snapshot
from worker import Client


@dataclass(frozen=True, slots=True)
class Comparison:
    """What both runs have left behind.

    Attributes:
        whole: of the uninterrupted run.
        killed: of the other.
        story: the seed, and each kill with the step at which it came; for the message of a failure.
    """

    whole: Snapshot
    killed: Snapshot
    story: str


async def compare_killed(scenario: KillScenario, place: Place, seed: str, kills: int) -> Comparison:
    """Play a scenario twice: without any kill on a copy of the database, then with many on the database itself.

    Args:
        scenario: what runs.
        place: where.
        seed: of the kill points.
        kills: how many at least.

    Raises:
        AssertionError: a worker ended in a way that nobody asked for, or the run is too short for so many kills.
    """
    play = Play(scenario, place)
    await play.prepare()
    async with copy_of(place.environment["DATABASE_URL"]) as copy, play.client(copy) as client:
        await play.work(client)
        shape = RunShape.of(play.steps, await count_chunks(client))
        whole = await play.snapshot(client)
    async with play.client(place.environment["DATABASE_URL"]) as client:
        plan = KillPlan(shape, kills, random.Random(seed))
        told = await _kill_along(play, client, plan)
        story = "\n".join([f"HEAVYLIFT_SEED={seed} HEAVYLIFT_KILLS={kills} gave these kills:", *told])
        assert len(told) >= kills, f"{scenario.name} has too few steps for {kills} kills: give it more rows. {story}"
        return Comparison(whole, await play.snapshot(client), story)


async def _kill_along(play: Play, client: Client, plan: KillPlan) -> list[str]:
    """Start one worker after the other until the queue is empty; tells of each kill."""
    told: list[str] = []
    while True:
        chunks = await count_chunks(client)
        point = plan.next_point(len(told), chunks)
        if not await play.work(client, point):
            return told
        told.append(f"{len(told) + 1}. at {chunks} chunks, {point} {play.steps[-1]}")
