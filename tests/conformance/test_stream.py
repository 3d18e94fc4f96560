"""`ctx.stream`: one moment of the database read through a cursor, while the run's session writes."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, text
from sqlalchemy import select as select_rows
from sqlalchemy.exc import DBAPIError
from sqlmodel import col, select, update

from tests.conftest import MakeRunner
from tests.support.chosen import Backend
from tests.support.own_session import execute, put, rows_of
from tests.support.shop_models import Tally
from tests.support.terminated import Victim, terminate
from worker import JobContext, Registry, job
from worker.core.errors import ErrorKind
from worker.core.events import ChunkCommitted, Event, StartedOver
from worker.core.outcomes import Failed, Interrupted, LeaseLost, Outcome, Succeeded
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database
from worker.database.postgres.snapshot import avoid_long_sort
from worker.database.snapshot import open_snapshot
from worker.run.runner import Runner
from worker.run.stop_signal import StopSignal

ROWS = 35
TALLY = Tally.__table__  # type: ignore[attr-defined]  # SQLModel sets it
Body = Callable[[JobContext], Awaitable[Any]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of ten rows, always."""
    return settings.model_copy(update={"chunk_start_rows": 10, "chunk_min_rows": 10, "chunk_max_rows": 10})


@pytest.fixture(autouse=True)
async def tallies(database: Database) -> None:
    """Tallies of 0, numbered from 1."""
    await put(database, TALLY, [{"id": n, "value": 0} for n in range(1, ROWS + 1)])


async def values(database: Database) -> list[int]:
    """The tallies' values by number."""
    return [value for (value,) in await rows_of(database, "SELECT value FROM tally ORDER BY id")]


@dataclass
class Attempts:
    """Goes at one run of one job, on one worker.

    Attributes:
        plain: what its runners are made from.
        body: the job.
        events: all that was told.
    """

    plain: Runner
    body: Body
    events: list[Event] = field(default_factory=list)

    async def __call__(self, stop_after: int | None = None) -> Outcome:
        """One attempt; stopped after so many chunks."""
        registry, stop = Registry(), StopSignal()
        job(registry=registry, name="read")(self.body)
        first = len(self.events)

        def hear(event: Event) -> None:
            self.events.append(event)
            if sum(isinstance(told, ChunkCommitted) for told in self.events[first:]) == stop_after:
                stop.set()

        runner = replace(self.plain, registry=registry, stop=stop, emit=hear)
        return await runner.run(Delivery("w", "read", {}, {}, "arq:queue", 1))

    @property
    def lent(self) -> int:
        """How many connections the worker's pool has lent."""
        return int(self.plain.ledger.database.engine.pool.checkedout())  # type: ignore[attr-defined]  # a queue pool's


MakeAttempts = Callable[[Body], Attempts]


@pytest.fixture
def attempts(make_runner: MakeRunner) -> MakeAttempts:
    """A function that makes attempts at a run."""
    return lambda body: Attempts(make_runner(), body)


async def add_one(ctx: JobContext, ids: list[int]) -> None:
    """Add one to some tallies, on the run's own session."""
    await ctx.session.exec(update(Tally).where(col(Tally.id).in_(ids)).values(value=TALLY.c.value + 1))


async def test_each_row_once_in_order(attempts: MakeAttempts) -> None:
    """Chunks come in key order, none larger than asked for, and cover the query."""
    seen: list[list[int]] = []

    async def body(ctx: JobContext) -> int:
        async for chunk in ctx.stream(select(Tally).where(Tally.id > 3), key=Tally.id):
            seen.append([tally.id for tally in chunk.rows])
            assert chunk.number == len(seen)
        return ctx.progress.done

    assert await attempts(body)() == Succeeded(ROWS - 3)
    assert [len(ids) for ids in seen] == [10, 10, 10, 2]
    assert [found for ids in seen for found in ids] == list(range(4, ROWS + 1))


async def test_columns_give_rows_with_their_names(attempts: MakeAttempts) -> None:
    """A select of columns gives rows of just these, whatever the key is."""

    async def body(ctx: JobContext) -> list[Any]:
        return [
            [row._fields, row.value, row[1]]
            async for chunk in ctx.stream(select_rows(TALLY.c.value, TALLY.c.id.label("number")), key=TALLY.c.id)
            for row in chunk.rows
            if row.number == 35
        ]

    assert await attempts(body)() == Succeeded([[["value", "number"], 0, 35]])


async def test_the_size_of_a_chunk_follows_the_run(make_runner: MakeRunner, settings: Settings) -> None:
    """A cursor that is open already gives chunks of the size that the run has come to."""
    sizes: list[int] = []

    async def body(ctx: JobContext) -> None:
        async for chunk in ctx.stream(select(Tally), key=Tally.id):
            sizes.append(len(chunk.rows))
            ctx.progress.chunk_rows = len(chunk.rows) + 1
            ctx.driver._bounds = replace(ctx.driver._bounds, target_ms=1e-6, least=1)  # type: ignore[attr-defined]

    growing = make_runner("one", settings.model_copy(update={"chunk_max_rows": 1000, "chunk_target_ms": 1e9}))
    assert isinstance(await Attempts(growing, body)(), Succeeded)
    assert sizes[0] == 10
    assert set(sizes[1:]) == {1}


async def test_nothing_that_happens_meanwhile_is_seen(attempts: MakeAttempts, database: Database) -> None:
    """Rows changed, deleted and added by another session, or by the run itself, are streamed as they were."""
    seen: list[tuple[int, int]] = []

    async def body(ctx: JobContext) -> int:
        async for chunk in ctx.stream(select(Tally), key=Tally.id):
            if chunk.number == 1:
                await execute(database, "UPDATE tally SET value = 100 WHERE id > 20")
                await execute(database, "DELETE FROM tally WHERE id = 30")
                await execute(database, "INSERT INTO tally VALUES (1000, 0)")
                await add_one(ctx, [tally.id + 10 for tally in chunk.rows])
            seen.extend((tally.id, tally.value) for tally in chunk.rows)
        return ctx.progress.done

    assert await attempts(body)() == Succeeded(ROWS)
    assert seen == [(number, 0) for number in range(1, ROWS + 1)]
    assert (await values(database))[10:22] == [1] * 10 + [100] * 2


async def test_an_interrupted_stream_goes_on_on_a_new_snapshot(attempts: MakeAttempts, database: Database) -> None:
    """After an interruption the rows behind the last committed key are streamed as they are then."""
    seen: list[tuple[int, int]] = []

    async def body(ctx: JobContext) -> int:
        async for chunk in ctx.stream(select(Tally), key=Tally.id):
            seen.extend((tally.id, tally.value) for tally in chunk.rows)
        return ctx.progress.done

    going = attempts(body)
    assert isinstance(await going(stop_after=1), Interrupted)
    await execute(database, "UPDATE tally SET value = 5")
    await execute(database, "INSERT INTO tally VALUES (1000, 5)")
    assert await going() == Succeeded(ROWS + 1)
    assert seen == [*((n, 0) for n in range(1, 11)), *((n, 5) for n in range(11, ROWS + 1)), (1000, 5)]


async def test_writes_commit_chunk_by_chunk(attempts: MakeAttempts, database: Database) -> None:
    """A run stopped at each chunk in turn writes to each row once, and nothing of a chunk before its end."""

    async def body(ctx: JobContext) -> int:
        async for chunk in ctx.stream(select(Tally), key=Tally.id):
            await add_one(ctx, [tally.id for tally in chunk.rows])
            assert sum(await values(database)) == 10 * (chunk.number - 1)
        return ctx.progress.done

    going = attempts(body)
    for _ in range(4):
        assert isinstance(await going(stop_after=1), Interrupted)
        assert going.lent == 0
    assert await going() == Succeeded(ROWS)
    assert await values(database) == [1] * ROWS


async def test_what_is_done_to_a_streamed_object_is_not_written(attempts: MakeAttempts, database: Database) -> None:
    """The objects belong to no session: they are there to be read."""

    async def body(ctx: JobContext) -> None:
        async for chunk in ctx.stream(select(Tally), key=Tally.id):
            for tally in chunk.rows:
                tally.value = 9
            assert not ctx.session.sync_session.identity_map

    assert isinstance(await attempts(body)(), Succeeded)
    assert await values(database) == [0] * ROWS


async def test_nothing_of_a_chunk_is_kept(attempts: MakeAttempts) -> None:
    """What one chunk loaded is gone when the next one is there."""
    before: list[Any] = []

    async def body(ctx: JobContext) -> None:
        async for chunk in ctx.stream(select(Tally), key=Tally.id):
            gc.collect()
            assert not any(found() for found in before)
            before[:] = [weakref.ref(tally) for tally in chunk.rows]
            del chunk

    assert isinstance(await attempts(body)(), Succeeded)
    assert len(before) == 5


@pytest.mark.only_on("postgresql", "mariadb", why="nobody can end a connection to SQLite from outside its process")
@pytest.mark.parametrize("victim", ["stream", "session"])
@pytest.mark.parametrize("number", [1, 2, 4])
async def test_a_killed_connection_costs_no_row(
    attempts: MakeAttempts, database: Database, backend: Backend, victim: Victim, number: int
) -> None:
    """Whichever of its connections is terminated in mid-chunk, a run goes on in place and writes each row once."""
    killed: list[str] = []

    async def body(ctx: JobContext) -> int:
        async for chunk in ctx.stream(select(Tally), key=Tally.id):
            await add_one(ctx, [tally.id for tally in chunk.rows])
            if chunk.number == number and not killed:
                killed.append(victim)
                await terminate(database, ctx, victim)
        return ctx.progress.done

    going = attempts(body)
    assert await going() == Succeeded(ROWS)
    noticed = [told.kind for told in going.events if isinstance(told, StartedOver)]
    # a cursor that has given its last row is not asked again; MariaDB sends so few rows at once, and they are there
    unnoticed = victim == "stream" and (number == 4 or backend == "mariadb")
    assert noticed == ([] if unnoticed else [ErrorKind.CONNECTION])
    assert killed == [victim]
    assert await values(database) == [1] * ROWS
    assert (await going.plain.ledger.read("w")).attempts == 1
    assert going.lent == 0


async def test_a_cancelled_task_gives_both_connections_back(attempts: MakeAttempts, database: Database) -> None:
    """A run that is cancelled in the middle of a chunk holds no connection, and another attempt finishes it."""
    reached, hangs = asyncio.Event(), [True]

    async def body(ctx: JobContext) -> int:
        async for chunk in ctx.stream(select(Tally), key=Tally.id):
            await add_one(ctx, [tally.id for tally in chunk.rows])
            if chunk.number == 2 and hangs:
                assert going.lent == 2
                reached.set()
                await asyncio.Event().wait()
        return ctx.progress.done

    going = attempts(body)
    running = asyncio.create_task(going())
    await reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert going.lent == 0
    hangs.clear()
    assert await going() == Succeeded(ROWS)
    assert await values(database) == [1] * ROWS


async def test_cancelled_at_any_moment(attempts: MakeAttempts, database: Database) -> None:
    """Runs cancelled after many different delays lend nothing on, and each row is written once in the end."""

    async def body(ctx: JobContext) -> int:
        async for chunk in ctx.stream(select(Tally), key=Tally.id):
            await add_one(ctx, [tally.id for tally in chunk.rows])
        return ctx.progress.done

    going = attempts(body)
    for step in range(25):
        running = asyncio.create_task(going())
        await asyncio.sleep(0.002 * step)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert going.lent == 0
    assert await going() == Succeeded(ROWS)
    assert await values(database) == [1] * ROWS


@pytest.mark.parametrize("ending", ["raise", "return", "break"])
async def test_a_stream_left_early_is_closed(attempts: MakeAttempts, ending: str) -> None:
    """However a job leaves its loop, the snapshot ends with the attempt at the latest."""

    async def body(ctx: JobContext) -> int:
        async for _ in ctx.stream(select(Tally), key=Tally.id):
            if ending == "raise":
                raise ValueError(ending)
            if ending == "return":
                return ctx.progress.done
            break
        return ctx.progress.done

    going = attempts(body)
    assert type(await going()) is (Failed if ending == "raise" else Succeeded)
    assert going.lent == 0


async def test_a_run_has_two_connections_at_most(attempts: MakeAttempts) -> None:
    """A second stream ends the first."""
    lent: list[int] = []

    async def body(ctx: JobContext) -> None:
        first = ctx.stream(select(Tally), key=Tally.id)
        await anext(first)
        async for chunk in ctx.stream(select(Tally), key=Tally.id):
            await add_one(ctx, [tally.id for tally in chunk.rows])
            lent.append(going.lent)
        with pytest.raises(StopAsyncIteration):
            await anext(first)

    going = attempts(body)
    await going()
    assert set(lent) == {2}


async def test_a_newer_claim_ends_it(attempts: MakeAttempts, database: Database, make_runner: MakeRunner) -> None:
    """A worker whose run was claimed anew commits nothing more, and lets its snapshot go."""
    thief = make_runner("thief")

    async def body(ctx: JobContext) -> int:
        async for chunk in ctx.stream(select(Tally), key=Tally.id):
            if chunk.number == 2:
                await thief.ledger.claim([Delivery("w", "read", {}, {}, "arq:queue", 1)])
            await add_one(ctx, [tally.id for tally in chunk.rows])
        return ctx.progress.done

    going = attempts(body)
    assert await going() == LeaseLost()
    assert (going.lent, sum(await values(database))) == (0, 10)


async def test_an_order_of_its_own_is_refused(attempts: MakeAttempts) -> None:
    """A query with ORDER BY cannot be streamed by key, and the message shows one that can."""

    async def body(ctx: JobContext) -> None:
        async for _ in ctx.stream(select(Tally).order_by(col(Tally.value)), key=Tally.id):
            pass

    outcome = await attempts(body)()
    assert isinstance(outcome, Failed)
    assert "for example ctx.chunks(" in outcome.error.message


SPOIL: Final[Mapping[Backend, str]] = {
    "postgresql": (
        "CREATE FUNCTION spoil(n int) RETURNS int LANGUAGE sql AS 'INSERT INTO spoilt VALUES (n) RETURNING 1'"
    ),
    "mariadb": (
        "CREATE FUNCTION spoil(n int) RETURNS int MODIFIES SQL DATA BEGIN INSERT INTO spoilt VALUES (n); RETURN 1; END"
    ),
}


@pytest.mark.only_on("postgresql", "mariadb", why="no query of SQLite's can write: it has no functions in SQL")
async def test_a_query_that_writes_is_refused(attempts: MakeAttempts, database: Database, backend: Backend) -> None:
    """The snapshot only reads: a function that writes fails the run, and has written nothing."""
    await execute(database, "CREATE TABLE spoilt (n int)", SPOIL[backend])

    async def body(ctx: JobContext) -> None:
        async for _ in ctx.stream(select(Tally).where(text("spoil(id) = 1")), key=Tally.id):
            pass

    outcome = await attempts(body)()
    assert not isinstance(outcome, Succeeded)
    assert await rows_of(database, "SELECT n FROM spoilt") == []


async def test_a_snapshot_only_reads(database: Database, settings: Settings) -> None:
    """What is written in it is refused; its connection writes as before when it is back."""
    async with open_snapshot(database, settings) as snapshot:
        connection = await snapshot.connection()
        assert (await connection.execute(text("SELECT count(*) FROM tally"))).scalar_one() == ROWS
        with pytest.raises(DBAPIError):
            await connection.execute(text("UPDATE tally SET value = 7"))
    assert await values(database) == [0] * ROWS
    await execute(database, "UPDATE tally SET value = 7")
    assert await values(database) == [7] * ROWS


@pytest.mark.only_on("postgresql", why="what is asked here are settings of PostgreSQL's")
async def test_a_snapshot_has_limits_of_its_own(database: Database, settings: Settings) -> None:
    """It only reads, sees one moment, and may be idle for ten leases; its connection is as before when it is back."""
    wanted = {
        "transaction_isolation": "repeatable read",
        "transaction_read_only": "on",
        "statement_timeout": "15s",
        "lock_timeout": "2s",
        "idle_in_transaction_session_timeout": "150s",
    }
    async with open_snapshot(database, settings) as snapshot:
        connection = await snapshot.connection()
        pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar()
        found = {name: (await connection.execute(text(f"SHOW {name}"))).scalar() for name in wanted}
        assert {**found, "idle_in_transaction_session_timeout": "150s"} == wanted
        assert found["idle_in_transaction_session_timeout"] in {"150s", "2min 30s"}
    async with database.engine.connect() as connection:
        assert (await connection.execute(text("SELECT pg_backend_pid()"))).scalar() == pid
        again = {name: (await connection.execute(text(f"SHOW {name}"))).scalar() for name in wanted}
        assert (again["transaction_isolation"], again["transaction_read_only"]) == ("read committed", "off")
        assert again["idle_in_transaction_session_timeout"] == "0"


@pytest.mark.only_on("postgresql", why="only PostgreSQL's planner sorts for the sake of the last row")
@pytest.mark.parametrize(("most", "plan"), [(49_000, "Index Scan"), (51_000, "Sort")])
async def test_no_long_sort_before_the_first_row(database: Database, most: int, plan: str) -> None:
    """Rows that would have to be sorted, and are too many for that, come by the index of their key."""
    await execute(
        database, "CREATE TABLE big AS SELECT (n * 7919) % 50021 AS id, n FROM generate_series(1, 50000) AS n"
    )
    await execute(database, "CREATE UNIQUE INDEX ON big (id)")
    await execute(database, "ANALYZE big")
    table = Table("big", MetaData(), Column("id", Integer), Column("n", Integer))
    statement = select_rows(table).where(table.c.n > -1).order_by(table.c.id)
    written = statement.compile(database.engine.sync_engine, compile_kwargs={"literal_binds": True})
    async with database.engine.connect() as connection:
        # as for a table that is much larger than the server's memory: the planner shuns the index
        await connection.execute(text("SET LOCAL effective_cache_size = '8kB'"))
        explained = (await connection.execute(text(f"EXPLAIN {written}"))).scalars()
        assert "Sort" in "\n".join(explained)
        await avoid_long_sort(connection, statement, most)
        explained = (await connection.execute(text(f"EXPLAIN {written}"))).scalars()
        assert next(iter(explained)).startswith(plan)
