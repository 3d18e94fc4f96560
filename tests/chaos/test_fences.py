"""Two claims of one run: only the newer one commits, whoever is faster."""

import asyncio

import pytest

from tests.chaos.conftest import TALLIES, Values
from tests.conftest import MakeRunner
from tests.support.sessions import end_sessions, sessions
from worker.core.outcomes import Failed, Interrupted, LeaseLost, Succeeded
from worker.core.settings import Settings
from worker.database.claims import Claimed, Delivery

pytestmark = pytest.mark.chaos

DELIVERY = Delivery("contested", "add_one", {}, {}, "arq:queue", 1)


async def claim(runner_claim: object) -> Claimed:
    """The claim of a run that is to be had."""
    assert isinstance(runner_claim, Claimed)
    return runner_claim


async def test_a_stale_fence_cannot_commit(make_runner: MakeRunner, values: Values) -> None:
    """The worker whose claim is older ends as lease lost and leaves no trace; the newer one does each row once."""
    old, new = make_runner("old"), make_runner("new")
    stale = await claim((await old.ledger.claim([DELIVERY]))[0])
    valid = await claim((await new.ledger.claim([DELIVERY]))[0])
    assert (stale.fence.number, valid.fence.number) == (1, 2)
    assert stale.fence.token != valid.fence.token
    assert await old.attempt(stale) == LeaseLost()
    assert await values() == [0] * TALLIES
    assert not await old.ledger.end(stale, Interrupted())
    assert await new.attempt(valid) == Succeeded(TALLIES)
    assert await values() == [1] * TALLIES


async def test_a_worker_fenced_off_in_mid_run_stops(make_runner: MakeRunner, values: Values) -> None:
    """A claim made while another worker is between chunks takes the run over at its cursor."""
    slow, thief = make_runner("slow"), make_runner("thief")
    pacing = Delivery("contested", "add_one", {"pause_s": 0.1}, {}, "arq:queue", 1)
    working = asyncio.create_task(slow.run(pacing))
    while sum(await values()) == 0:
        await asyncio.sleep(0.01)
    taken = await thief.run(pacing)
    assert await working == LeaseLost()
    assert taken == Succeeded(TALLIES)
    assert await values() == [1] * TALLIES


@pytest.mark.parametrize("turn", range(5))
async def test_two_workers_handed_the_same_run(make_runner: MakeRunner, values: Values, turn: int) -> None:
    """However two deliveries of one run interleave, each row is done once and one of them succeeds."""
    first, second = make_runner("first"), make_runner("second")

    async def late() -> object:
        await asyncio.sleep(turn * 0.01)
        return await second.run(DELIVERY)

    outcomes = await asyncio.gather(first.run(DELIVERY), late())
    assert Succeeded(TALLIES) in outcomes
    assert all(outcome in {Succeeded(TALLIES), LeaseLost()} for outcome in outcomes)
    assert await values() == [1] * TALLIES


async def test_cancelled_at_any_moment(make_runner: MakeRunner, values: Values) -> None:
    """Runs cancelled after many different delays are interruptions, and each row is done once in the end."""
    runner = make_runner()
    for step in range(40):
        running = asyncio.create_task(runner.run(DELIVERY))
        await asyncio.sleep(0.0015 * step)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert await runner.run(DELIVERY) == Succeeded(TALLIES)
    record = await runner.ledger.read("contested")
    assert await values() == [1] * TALLIES
    assert record.attempts == 1


@pytest.mark.only_on("postgresql", "mariadb", why="SQLite has no connections that somebody else could end")
async def test_connections_killed_in_mid_run(make_runner: MakeRunner, values: Values, database_url: str) -> None:
    """A run whose connections are terminated again and again goes on in place, and does each row once."""
    await values()
    mine = await sessions(database_url)
    runner = make_runner("victim")
    pacing = Delivery("contested", "add_one", {"pause_s": 0.05}, {}, "arq:queue", 1)
    running = asyncio.create_task(runner.run(pacing))
    killed = 0
    # a claim that fails has done nothing, and is the queue's to repeat
    while not any(await values()):
        await asyncio.sleep(0.01)
    while not running.done() and killed < 4:
        await asyncio.sleep(0.08)
        killed += await end_sessions(database_url, lambda number: number not in mine)
    assert await running == Succeeded(TALLIES)
    assert killed > 0
    # the victim's own connections may have been killed a moment ago, which nobody has noticed
    record = await make_runner("witness").ledger.read("contested")
    assert (record.attempts, await values()) == (1, [1] * TALLIES)


async def test_a_run_that_kills_its_worker_is_given_up(make_runner: MakeRunner, settings: Settings) -> None:
    """Claims that end without an outcome, ten in a row without a chunk, fail the run as WorkerCrashed."""
    runner = make_runner()
    for _ in range(settings.max_crashes):
        await runner.ledger.claim([DELIVERY])
    # the tenth claim's crash is seen by the one after it
    outcome = await runner.run(DELIVERY)
    assert isinstance(outcome, Failed)
    assert outcome.error.type == "WorkerCrashed"
    assert (await runner.ledger.read("contested")).crashes == settings.max_crashes
