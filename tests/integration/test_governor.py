"""The governor and the brake: runs give way to a database under pressure, say why, and lose nothing by it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event, text, true
from sqlmodel import col, select

from tests.conftest import MakeRunner
from tests.support.pressure import lock_waiters, session, until, vacuum
from tests.support.shop_models import Item, Tally
from worker import JobContext, Registry, job, primary_walk
from worker.core.clock import SystemClock
from worker.core.events import Event, RunHeld, RunReleased
from worker.core.outcomes import Cancelled, Interrupted, LeaseLost, Outcome, Paused, Snoozed, Status, Succeeded
from worker.core.pressure import LockWaiters
from worker.core.settings import Settings
from worker.database.claims import Claimed, Delivery
from worker.database.engine import Database
from worker.database.records import RunRecord
from worker.run.governor import Governor
from worker.run.runner import Runner

TALLIES = 30
OURS = "heavylift:one"
REASON = "1 session waits for locks of this worker (limit 1)"
DELIVERY = Delivery("r", "add_one", {}, {}, "arq:queue", 1)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Chunks of ten rows, and runs that wait for the first lock waiter."""
    small = {"chunk_start_rows": 10, "chunk_min_rows": 10, "chunk_max_rows": 10}
    return settings.model_copy(update={**small, "max_lock_waiters": 1})


@pytest.fixture
def events() -> list[Event]:
    """What the runner of this test tells."""
    return []


@pytest.fixture
async def runner(make_runner: MakeRunner, database: Database, events: list[Event]) -> Runner:
    """A runner called `one`, and thirty tallies for it to move: three chunks."""
    async with database.engine.begin() as connection:
        await connection.execute(text(f"INSERT INTO tally SELECT n, 0 FROM generate_series(1, {TALLIES}) AS n"))
    return governed(make_runner(), events)


def governed(runner: Runner, events: list[Event], *, hold_s: float = 30) -> Runner:
    """The runner with a governor of so much patience, both telling the test."""
    governor = Governor(runner.ledger.database, runner.settings, SystemClock(), events.append, hold_s=hold_s)
    return replace(runner, emit=events.append, governor=governor)


def governor_of(runner: Runner) -> Governor:
    """The runner's governor."""
    assert runner.governor is not None
    return runner.governor


async def run_function(runner: Runner, function: Callable[[JobContext], Awaitable[Any]]) -> Outcome:
    """Run a function as a job of the runner's."""
    registry = Registry()
    job(registry=registry, name="function")(function)
    return await replace(runner, registry=registry).run(Delivery("r", "function", {}, {}, "arq:queue", 1))


async def values(database: Database) -> list[int]:
    """The tallies, which say how often each chunk took effect."""
    async with database.engine.connect() as connection:
        return list((await connection.execute(text("SELECT value FROM tally ORDER BY id"))).scalars())


async def seen(runner: Runner, condition: Callable[[RunRecord], bool]) -> RunRecord:
    """The record of the run as soon as something is so."""
    record: RunRecord | None = None

    async def look() -> bool:
        nonlocal record
        async with runner.ledger.database.engine.connect() as connection:
            known = (await connection.execute(text("SELECT count(*) FROM heavylift_runs WHERE id = 'r'"))).scalar_one()
        record = await runner.ledger.read("r") if known else None
        return record is not None and condition(record)

    await until(look)
    assert record is not None
    return record


async def held(runner: Runner) -> RunRecord:
    """The record of the run as soon as it waits."""
    return await seen(runner, lambda record: record.status is Status.WAITING)


async def test_a_run_waits_while_others_wait_for_this_worker_and_says_so(
    runner: Runner, database: Database, database_url: str, events: list[Event]
) -> None:
    """Held after its first chunk with the reason in its record; released, it does the rest, each row once."""
    async with lock_waiters(database_url, holder=OURS):
        running = asyncio.create_task(runner.run(DELIVERY))
        record = await held(runner)
        assert (record.waiting_for, record.done) == (f"governor: {REASON}", 10)
    assert await running == Succeeded(TALLIES)
    ended = await runner.ledger.read("r")
    assert (ended.status, ended.waiting_for, ended.attempts) == (Status.SUCCEEDED, None, 1)
    assert await values(database) == [1] * TALLIES
    told = [one for one in events if isinstance(one, RunHeld | RunReleased)]
    assert told[0] == RunHeld("r", "add_one", REASON, waits=True)
    assert [type(one) for one in told] == [RunHeld, RunReleased]


async def test_a_run_waits_for_those_behind_the_chunk_of_another(
    runner: Runner, database: Database, database_url: str
) -> None:
    """While one run's chunk keeps a neighbour waiting, the worker's other run does not add to it."""
    go_on = asyncio.Event()

    async def keep_waiting(ctx: JobContext) -> None:
        async for _ in ctx.chunks(select(Item), key=Item.sku):
            await go_on.wait()

    async with database.engine.begin() as connection:
        await connection.execute(text("INSERT INTO item (sku, name, quantity, price) VALUES ('a', 'x', 1, 1)"))
    registry = Registry()
    job(registry=registry, name="keep_waiting")(keep_waiting)
    blocking = Delivery("blocking", "keep_waiting", {}, {}, "arq:queue", 1)
    in_the_way = asyncio.create_task(replace(runner, registry=registry).run(blocking))
    async with session(database_url) as neighbour:
        await until(lambda: is_locked(database))
        updating = asyncio.create_task(neighbour.execute("UPDATE item SET quantity = 2 WHERE sku = 'a'"))
        running = asyncio.create_task(runner.run(DELIVERY))
        assert (await held(runner)).waiting_for == f"governor: {REASON}"
        assert not updating.done()
        go_on.set()
        await updating
    assert isinstance(await in_the_way, Succeeded)
    assert await running == Succeeded(TALLIES)


async def is_locked(database: Database) -> bool:
    """Whether somebody has locked the item."""
    async with database.engine.connect() as connection:
        free = await connection.execute(text("SELECT sku FROM item FOR UPDATE SKIP LOCKED"))
        return free.first() is None


async def test_those_behind_a_lone_runs_chunk_are_seen_while_it_is_under_way(runner: Runner, database_url: str) -> None:
    """After the commit nobody would wait any more: the look is taken in mid-chunk."""
    governor = governor_of(runner)
    async with session(database_url) as neighbour:

        async def function(ctx: JobContext) -> int:
            async for chunk in ctx.chunks(select(Tally), key=Tally.id):
                if chunk.number == 2:
                    behind = f"UPDATE tally SET value = 7 WHERE id = {chunk.rows[0].id}"
                    waiting.append(asyncio.ensure_future(neighbour.execute(behind)))
                    await until(sees_one)
            return ctx.progress.done

        async def sees_one() -> bool:
            return LockWaiters(1) in (await governor.latest()).measures

        waiting: list[asyncio.Future[object]] = []
        assert await run_function(runner, function) == Succeeded(TALLIES)
        await asyncio.gather(*waiting)


async def test_a_released_run_is_running_again(runner: Runner, database_url: str) -> None:
    """What the record said of the hold is taken back as soon as the run goes on, not when it ends."""
    go_on = asyncio.Event()

    async def function(ctx: JobContext) -> int:
        async for chunk in ctx.chunks(select(Tally), key=Tally.id):
            if chunk.number == 2:
                await go_on.wait()
        return ctx.progress.done

    async with lock_waiters(database_url, holder=OURS):
        running = asyncio.create_task(run_function(runner, function))
        await held(runner)
    record = await seen(runner, lambda record: record.status is Status.RUNNING)
    assert record.waiting_for is None
    go_on.set()
    assert await running == Succeeded(TALLIES)


async def test_nothing_is_held_open_meanwhile(runner: Runner, database_url: str) -> None:
    """A run that waits has no transaction: the next one who comes does not wait for it."""

    async def all_idle() -> bool:
        open_ones = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state <> 'idle'"
        return bool(await watching.fetchval(open_ones, OURS) == 0)

    async with session(database_url) as watching, lock_waiters(database_url, holder=OURS):
        running = asyncio.create_task(runner.run(DELIVERY))
        await held(runner)
        await until(all_idle)
        assert not running.done()
    await running


@pytest.mark.parametrize(("wanted", "outcome"), [("pause", Paused), ("cancel", Cancelled)])
async def test_a_held_run_hears_what_is_wanted_of_it(
    runner: Runner, database_url: str, wanted: str, outcome: type[Outcome]
) -> None:
    """A pause or a cancel asked for during a hold ends it there, at the cursor."""
    async with lock_waiters(database_url, holder=OURS):
        running = asyncio.create_task(runner.run(DELIVERY))
        await held(runner)
        await runner.ledger.ask_for("r", wanted)
        assert isinstance(await running, outcome)
    assert (await runner.ledger.read("r")).done == 10


async def test_a_stopping_worker_lets_a_held_run_go(runner: Runner, database_url: str) -> None:
    """The run is interrupted at once and costs no attempt."""
    async with lock_waiters(database_url, holder=OURS):
        running = asyncio.create_task(runner.run(DELIVERY))
        await held(runner)
        runner.stop.set()
        assert await running == Interrupted()
    record = await runner.ledger.read("r")
    assert (record.status, record.waiting_for, record.attempts, record.done) == (Status.QUEUED, None, 0, 10)


async def test_a_long_hold_frees_the_worker(
    runner: Runner, database: Database, database_url: str, events: list[Event]
) -> None:
    """The run is snoozed with the reason, comes back to ask before any chunk, and counts one attempt in the end."""
    impatient = governed(runner, events, hold_s=0)
    async with lock_waiters(database_url, holder=OURS):
        for _ in range(2):
            outcome = await impatient.run(DELIVERY)
            assert isinstance(outcome, Snoozed)
            assert outcome.reason == f"governor: {REASON}"
            record = await runner.ledger.read("r")
            assert (record.status, record.attempts, record.done) == (Status.WAITING, 0, 10)
            assert (record.waiting_for or "").startswith(f"governor: {REASON}, tried again at 20")
    assert await runner.run(DELIVERY) == Succeeded(TALLIES)
    record = await runner.ledger.read("r")
    assert (record.attempts, record.interruptions, record.crashes) == (1, 0, 0)
    assert await values(database) == [1] * TALLIES


async def test_a_worker_that_dies_in_a_hold_has_crashed(
    runner: Runner, make_runner: MakeRunner, database: Database, database_url: str
) -> None:
    """A claim of a held run counts a crash, and the earlier holder changes neither rows nor record any more."""
    async with lock_waiters(database_url, holder=OURS):
        stale = asyncio.create_task(runner.run(DELIVERY))
        await held(runner)
        assert await make_runner("two").run(DELIVERY) == Succeeded(TALLIES)
        assert await stale == LeaseLost()
    record = await runner.ledger.read("r")
    assert (record.status, record.crashes, record.worker, record.waiting_for) == (Status.SUCCEEDED, 1, "two", None)
    assert await values(database) == [1] * TALLIES


async def test_a_trouble_in_a_hold_ends_the_hold_in_the_record(runner: Runner) -> None:
    """A run that starts over in place is running, whatever the record said when the trouble came."""
    (claimed,) = await runner.ledger.claim([DELIVERY])
    assert isinstance(claimed, Claimed)
    await runner.ledger.tell(claimed.fence, Status.WAITING, "governor: something")
    await runner.ledger.settle(claimed)
    record = await runner.ledger.read("r")
    assert (record.status, record.waiting_for, record.crashes) == (Status.RUNNING, None, 0)


async def test_below_the_limit_a_run_is_slowed_and_says_so(
    runner: Runner, database_url: str, events: list[Event]
) -> None:
    """It goes on, with the reason for its pace in its record."""
    patient = {"max_lock_waiters": 5, "chunk_start_rows": 1, "chunk_min_rows": 1, "chunk_max_rows": 1}
    slowed = governed(replace(runner, settings=runner.settings.model_copy(update=patient)), events)
    async with lock_waiters(database_url, holder=OURS):
        running = asyncio.create_task(slowed.run(Delivery("r", "add_one", {"pause_s": 0.1}, {}, "arq:queue", 1)))
        record = await seen(slowed, lambda record: record.waiting_for is not None)
    assert record.status is Status.RUNNING
    reason = "slowed down, 1 session waits for locks of this worker (limit 5)"
    assert record.waiting_for == f"governor: {reason}"
    assert RunHeld("r", "add_one", reason, waits=False) in events
    slowed.stop.set()
    await running


@pytest.mark.parametrize(
    ("works_on", "vacuumed", "reason"),
    [((), "tally", "a vacuum runs on tally"), ((Item,), "item", "a vacuum runs on item"), ((), "item", None)],
)
async def test_a_run_makes_way_for_a_vacuum_of_its_tables(
    runner: Runner,
    database: Database,
    database_url: str,
    works_on: tuple[type[Item]],
    vacuumed: str,
    reason: str | None,
) -> None:
    """Of the one that it walks and of those that it names, not of any other."""

    async def function(ctx: JobContext) -> int:
        ctx.works_on(*works_on)
        async for _ in ctx.chunks(select(Tally).where(col(Tally.id) <= TALLIES), key=Tally.id):
            pass
        return ctx.progress.done

    async with database.engine.begin() as connection:
        for fill in (
            "INSERT INTO tally SELECT n, 0 FROM generate_series(1000, 40000) AS n",
            "INSERT INTO item (sku, name, quantity, price) SELECT n, 'x', 1, 1 FROM generate_series(1, 40000) AS n",
        ):
            await connection.execute(text(fill))
    async with vacuum(database_url, vacuumed):
        running = asyncio.create_task(run_function(runner, function))
        if reason is None:
            assert await running == Succeeded(TALLIES)
        else:
            assert (await held(runner)).waiting_for == f"governor: {reason}"
    assert await running == Succeeded(TALLIES)


async def test_a_walk_by_spans_makes_way_too(runner: Runner, database: Database, database_url: str) -> None:
    """A walk over a registered table is held between its spans, for that table's sake."""

    async def function(ctx: JobContext) -> None:
        table = ctx.tables.get("item").table
        walk = primary_walk(table, await ctx.tools.table_facts(table))
        async for _ in ctx.spans(walk, true()):
            pass

    async with database.engine.begin() as connection:
        fill = "INSERT INTO item (sku, name, quantity, price) SELECT n, 'x', 1, 1 FROM generate_series(1, 40000) AS n"
        await connection.execute(text(fill))
    async with vacuum(database_url, "item"):
        running = asyncio.create_task(run_function(runner, function))
        record = await held(runner)
        assert (record.waiting_for, record.done) == ("governor: a vacuum runs on item", 10)
        runner.stop.set()
        assert await running == Interrupted()


def looks(runner: Runner) -> list[str]:
    """The looks at the database that the runner's worker takes from now on."""
    taken: list[str] = []

    def note(_c: object, _u: object, statement: str, *_: object) -> None:
        if "pg_blocking_pids" in statement:
            taken.append(statement)

    event.listen(runner.ledger.database.engine.sync_engine, "before_cursor_execute", note)
    return taken


async def test_one_look_serves_all_runs_for_a_second(runner: Runner) -> None:
    """However many ask at once, and again right after, the database is asked once."""
    taken, governor = looks(runner), governor_of(runner)
    await asyncio.gather(*(governor.verdict(()) for _ in range(20)))
    await governor.verdict({"tally"})
    assert len(taken) == 1


async def test_a_run_of_one_chunk_costs_no_look(runner: Runner) -> None:
    """There is nothing between its chunks."""
    large = {"chunk_start_rows": 100, "chunk_min_rows": 100, "chunk_max_rows": 100}
    whole = replace(runner, settings=runner.settings.model_copy(update=large))
    taken = looks(runner)
    assert await whole.run(DELIVERY) == Succeeded(TALLIES)
    assert taken == []


async def test_nothing_is_looked_at_without_runs(runner: Runner) -> None:
    """With the last run's end the governor's task ends too."""
    await asyncio.gather(runner.run(DELIVERY), runner.run(replace(DELIVERY, run_id="s")))
    assert [task for task in asyncio.all_tasks() if "_keep_looking" in repr(task)] == []


async def test_without_a_governor_runs_go_on_whatever_happens(runner: Runner, database_url: str) -> None:
    """WORKER_GOVERNOR=off leaves the database's state out of it."""
    async with lock_waiters(database_url, holder=OURS):
        assert await replace(runner, governor=None).run(DELIVERY) == Succeeded(TALLIES)
