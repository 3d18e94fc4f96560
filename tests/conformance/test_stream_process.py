"""`stream_process`: rows given to functions, and what they change, on each database."""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlmodel import SQLModel, insert

from tests.conftest import MakeRunner
from tests.support.chosen import Backend
from tests.support.impatient import is_let
from tests.support.league_models import HERO, LEAGUE, TEAM, Form
from tests.support.own_session import execute, put, rows_of
from tests.support.refused_as import refused_by
from tests.support.row_triggers import note
from tests.support.shop_models import Tally
from tests.support.spelling import Spelling
from tests.support.terminated import Victim, terminate
from worker import ChangedRows, GivenRows, JobContext, Processors, processor
from worker.core.errors import DeclarationError
from worker.core.events import ChunkCommitted, Event
from worker.core.outcomes import Failed, Interrupted, Outcome, Succeeded
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database
from worker.database.tables import PROGRESS, QUARANTINE
from worker.declare.tables import find_tables
from worker.run.runner import Runner
from worker.run.stop_signal import StopSignal

HEROES = 35
MODELS = ("tests.support.league_models",)

Run = Callable[..., Awaitable[Outcome]]
Function = Callable[[JobContext, GivenRows], Awaitable[ChangedRows]]

CURRENT: dict[str, Function] = {}
"""What the processor `current` does in the test that runs."""


@processor(name="current")
async def current(ctx: JobContext, rows: GivenRows) -> ChangedRows:
    """Whatever the test wants."""
    return await CURRENT["current"](ctx, rows)


@processor
async def strengthen(ctx: JobContext, rows: GivenRows) -> ChangedRows:
    """Add one to each hero's strength, and note the hero in the run's session."""
    await ctx.session.exec(insert(Tally).values([{"id": row["id"], "value": 1} for row in rows]))
    return [{"id": row["id"], "strength": row["strength"] + 1} for row in rows]  # type: ignore[operator]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of ten rows, always."""
    return settings.model_copy(update={"chunk_start_rows": 10, "chunk_min_rows": 10, "chunk_max_rows": 10})


@pytest.fixture(autouse=True)
async def league(database: Database) -> None:
    """Two teams; heroes numbered from 1, each of strength 1."""
    async with database.engine.begin() as connection:
        await connection.run_sync(SQLModel.metadata.create_all, [model.__table__ for model in LEAGUE])  # type: ignore[attr-defined]  # SQLModel sets it
    await put(database, TEAM, [{"id": n, "name": f"team {n}"} for n in (1, 2)])
    await put(database, HERO, heroes(1, HEROES))


def heroes(first: int, last: int) -> list[dict[str, object]]:
    """Rows of them."""
    return [
        {"id": n, "name": f"hero {n}", "strength": 1, "active": True, "traits": {"n": 1}}
        for n in range(first, last + 1)
    ]


@pytest.fixture
def run(make_runner: MakeRunner) -> Run:
    """A function that runs `stream_process` to its end, or to where it is stopped."""
    runner = replace(make_runner(), tables=find_tables(MODELS, {}))

    async def run_once(
        function: Function | None = None,
        *,
        stop_after: int | None = None,
        allow: Mapping[str, tuple[str, ...]] | None = None,
        **params: Any,
    ) -> Outcome:
        if function is not None:
            CURRENT["current"] = function
        stop, given = StopSignal(), {"table": "hero", "processor": "current"} | params
        stopping: Runner = replace(
            runner, stop=stop, emit=partial(stop_at, stop, [], stop_after), tables=find_tables(MODELS, allow or {})
        )
        return await stopping.run(Delivery("p", "stream_process", given, {}, "arq:queue", 1))

    return run_once


def stop_at(stop: StopSignal, seen: list[Event], number: int | None, event: Event) -> None:
    """Ask a worker to stop once so many chunks are committed."""
    if isinstance(event, ChunkCommitted):
        seen.append(event)
        if len(seen) == number:
            stop.set()


def counts(outcome: Outcome) -> tuple[int, int]:
    """Processed and updated."""
    assert isinstance(outcome, Succeeded), outcome
    result: Any = outcome.result
    assert set(result) == {"processed", "updated"}
    return result["processed"], result["updated"]


def returning(*changed: Mapping[str, object]) -> Function:
    """A function that returns the same rows from each chunk that has them."""

    async def function(_: JobContext, rows: GivenRows) -> ChangedRows:
        ids = {row["id"] for row in rows}
        return [row for row in changed if row["id"] in ids]

    return function


@pytest.mark.parametrize("snapshot", [False, True])
async def test_a_function_is_given_each_row_once(run: Run, snapshot: bool) -> None:  # noqa: FBT001 - a parameter of the job
    """Rows come in key order, in chunks, with all columns; an empty chunk is not given."""
    seen: list[list[Mapping[str, object]]] = []

    async def function(_: JobContext, rows: GivenRows) -> ChangedRows:
        seen.append(list(rows))
        return None

    outcome = await run(function, snapshot=snapshot, where={"or": [{"id": {"le": 15}}, {"id": {"gt": 30}}]})
    assert counts(outcome) == (20, 0)
    assert [row["id"] for rows in seen for row in rows] == [*range(1, 16), *range(31, 36)]
    assert set(seen[0][0]) == {column.name for column in LEAGUE[1].__table__.columns}  # type: ignore[attr-defined]
    assert max(map(len, seen)) <= 10


@pytest.mark.parametrize("snapshot", [False, True])
async def test_rows_are_to_be_read_only(run: Run, snapshot: bool) -> None:  # noqa: FBT001 - a parameter of the job
    """A row cannot be changed in its place: what changes is returned."""

    async def function(_: JobContext, rows: GivenRows) -> ChangedRows:
        assert type(rows[0]) is MappingProxyType
        rows[0]["name"] = "x"  # type: ignore[index]
        return None

    outcome = await run(function, snapshot=snapshot)
    assert isinstance(outcome, Failed)
    assert outcome.error.type == "TypeError"


@pytest.mark.parametrize("snapshot", [False, True])
async def test_interrupted_at_each_chunk(run: Run, database: Database, snapshot: bool) -> None:  # noqa: FBT001 - a parameter of the job
    """A run stopped after each chunk in turn gives each row once; its own writes and the returned rows go together."""
    stops = 0
    while isinstance(outcome := await run(processor="strengthen", snapshot=snapshot, stop_after=1), Interrupted):
        stops += 1
    assert (stops, counts(outcome)) == (4, (HEROES, HEROES))
    assert await rows_of(database, "SELECT DISTINCT strength FROM hero") == [(2,)]
    assert await rows_of(database, "SELECT count(*), sum(value) FROM tally") == [(HEROES, HEROES)]


@pytest.mark.only_on("postgresql", "mariadb", why="nobody can end a connection to SQLite from outside its process")
@pytest.mark.parametrize(("snapshot", "victim"), [(False, "session"), (True, "session"), (True, "stream")])
async def test_killed_connections(run: Run, database: Database, snapshot: bool, victim: Victim) -> None:  # noqa: FBT001 - a parameter of the job
    """A run whose connections are terminated in mid-chunk goes on in place, and writes each row once."""
    killed: list[object] = []

    async def function(ctx: JobContext, rows: GivenRows) -> ChangedRows:
        if rows[0]["id"] == 11 and not killed:
            killed.append(victim)
            await terminate(database, ctx, victim)
        return await strengthen(ctx, rows)

    assert counts(await run(function, snapshot=snapshot)) == (HEROES, HEROES)
    assert killed
    assert await rows_of(database, "SELECT DISTINCT strength FROM hero") == [(2,)]
    assert await rows_of(database, "SELECT count(*), sum(value) FROM tally") == [(HEROES, HEROES)]


async def test_a_snapshot_sees_one_moment(run: Run, database: Database) -> None:
    """With `snapshot` rows are given as they were, whatever another session does meanwhile; without, as they are."""
    names: list[object] = []

    async def function(_: JobContext, rows: GivenRows) -> ChangedRows:
        if not names:
            await execute(database, "UPDATE hero SET name = 'renamed' WHERE id > 20")
            await execute(database, "DELETE FROM hero WHERE id = 35")
        names.extend(row["name"] for row in rows)
        return None

    assert counts(await run(function, snapshot=True)) == (HEROES, 0)
    assert names == [f"hero {n}" for n in range(1, HEROES + 1)]


async def test_without_a_snapshot_rows_are_as_they_are_and_locked(
    run: Run, database: Database, backend: Backend
) -> None:
    """Another session's change of a row that lies ahead is seen; those that were given it cannot change meanwhile."""
    names: list[object] = []
    let: list[int] = []

    async def function(_: JobContext, rows: GivenRows) -> ChangedRows:
        if not names:
            let.extend(
                [
                    n
                    for n in (1, 10, 11, 35)
                    if await is_let(database, backend, f"UPDATE hero SET name = 'renamed' WHERE id = {n}")
                ]
            )
        names.extend(row["name"] for row in rows)
        return None

    assert counts(await run(function)) == (HEROES, 0)
    # SQLite has one writer: all rows are locked
    assert let == ([] if backend == "sqlite" else [11, 35])
    assert names == ["renamed" if n in let else f"hero {n}" for n in range(1, HEROES + 1)]


@pytest.mark.parametrize("snapshot", [False, True])
async def test_only_what_really_changes_is_counted(
    run: Run,
    database: Database,
    backend: Backend,
    snapshot: bool,  # noqa: FBT001 - a parameter of the job
) -> None:
    """Rows returned as they were, whole or with values that come to the same, are not updated."""
    await execute(database, *note(backend, "hero"))

    async def function(_: JobContext, rows: GivenRows) -> ChangedRows:
        whole = [dict(row) for row in rows if row["id"] == 1]
        same = [{"id": row["id"], "strength": "1.0", "active": "yes"} for row in rows if row["id"] == 2]
        one = [{**row, "name": "other"} for row in rows if row["id"] == 3]
        return [*whole, *same, *one]

    assert counts(await run(function, snapshot=snapshot)) == (HEROES, 1)
    assert await rows_of(database, "SELECT id FROM noted") == [(3,)]
    assert await rows_of(database, "SELECT name FROM hero WHERE id = 3") == [("other",)]


async def test_a_snapshot_leaves_what_others_changed_alone(run: Run, database: Database) -> None:
    """Of a row that another session changes meanwhile only what the function changed is written; a gone one, not."""

    async def function(_: JobContext, rows: GivenRows) -> ChangedRows:
        if rows[0]["id"] == 1:
            await execute(database, "UPDATE hero SET name = 'renamed'")
            await execute(database, "DELETE FROM hero WHERE id = 4")
        return [{**row, "strength": 5} for row in rows]

    assert counts(await run(function, snapshot=True)) == (HEROES, HEROES - 1)
    assert await rows_of(database, "SELECT DISTINCT name, strength FROM hero") == [("renamed", 5)]
    ((counters,),) = await rows_of(database, select(PROGRESS.c.counters))
    assert counters["missing"] == 1


async def test_values_of_every_type(run: Run, database: Database) -> None:
    """Values are taken as the table's types take them, documents changed in their place included."""

    async def function(_: JobContext, rows: GivenRows) -> ChangedRows:
        row = rows[0]
        traits: Any = row["traits"]
        traits["n"] = 2
        made = {"joined": "2024-02-29", "seen_at": "2024-05-06T07:08:09Z", "speed": "0.5", "emblem": b"\x00"}
        return [{**row, **made, "team_id": 2, "form": Form.tired, "badge": "0189f7e5-0000-7000-8000-0000000000ff"}]

    assert counts(await run(function, where={"id": {"eq": 1}})) == (1, 1)
    (hero,) = await rows_of(database, select(HERO).where(HERO.c.id == 1))
    values = dict(zip(HERO.c.keys(), hero, strict=True))
    # databases without time zones hold moments in UTC
    assert values.pop("seen_at").replace(tzinfo=None) == dt.datetime(2024, 5, 6, 7, 8, 9)  # noqa: DTZ001 - see above
    assert values == {
        "id": 1,
        "name": "hero 1",
        "team_id": 2,
        "strength": 1,
        "joined": dt.date(2024, 2, 29),
        "badge": UUID("0189f7e5-0000-7000-8000-0000000000ff"),
        "active": True,
        "speed": 0.5,
        "emblem": b"\x00",
        "traits": {"n": 2},
        "form": Form.tired,
        "initial": "h",
    }


@pytest.mark.parametrize("snapshot", [False, True])
async def test_what_does_not_fit_or_is_refused_is_put_aside(
    run: Run,
    database: Database,
    backend: Backend,
    spelling: Spelling,
    snapshot: bool,  # noqa: FBT001 - a parameter of the job
) -> None:
    """Rows that validation or the database refuses are in quarantine with their values; the others are written."""
    await execute(database, *spelling.with_check("hero", "name <> 'hero 13' OR strength < 2"))

    async def function(_: JobContext, rows: GivenRows) -> ChangedRows:
        values: dict[object, object] = {12: "strong", 14: None}
        return [{"id": row["id"], "strength": values.get(row["id"], 2)} for row in rows]

    assert counts(await run(function, snapshot=snapshot)) == (HEROES, HEROES - 3)
    aside = QUARANTINE.c
    refused = await rows_of(database, select(aside.sqlstate, aside.constraint_name, aside.payload).order_by(aside.id))
    assert refused == [
        (None, None, {"id": 12, "strength": "strong"}),
        (None, None, {"id": 14, "strength": None}),
        (*refused_by(backend, "check", "hero_check"), {"id": 13, "strength": 2}),
    ]
    assert await rows_of(database, "SELECT id FROM hero WHERE strength = 1 ORDER BY id") == [(12,), (13,), (14,)]


async def test_most_rows_refused_end_the_run(run: Run, database: Database) -> None:
    """Where more than half of the rows are refused, the run stops at fifty, and they stay to be read."""
    await put(database, HERO, heroes(100, 199))

    async def function(_: JobContext, rows: GivenRows) -> ChangedRows:
        return [{"id": row["id"], "team_id": 9} for row in rows]

    outcome = await run(function)
    assert isinstance(outcome, Failed)
    assert outcome.error.type == "TooManyRefusedError"
    assert await rows_of(database, "SELECT count(*) FROM heavylift_quarantine") == [(50,)]


async def test_reading_needs_no_leave_to_update(run: Run, database: Database) -> None:
    """A table that may be read only is processed, and refused as soon as rows are to be written to it."""

    async def look(_: JobContext, rows: GivenRows) -> ChangedRows:
        return [dict(row) for row in rows]

    assert counts(await run(look, allow={"hero": ("read",)}, where={"id": {"le": 10}})) == (10, 0)
    await execute(database, "DELETE FROM heavylift_runs")
    outcome = await run(returning({"id": 3, "name": "x"}), allow={"hero": ("read",)})
    assert isinstance(outcome, Failed)
    assert outcome.error.type == "NotAllowedError"
    await execute(database, "DELETE FROM heavylift_runs")
    outcome = await run(look, allow={"hero": ("update",)})
    assert isinstance(outcome, Failed)
    assert "does not allow 'read'" in outcome.error.message


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (5, "returned 5, which is no changed row"),
        ("row", "returned 'row'"),
        ({"id": 1, "name": "x"}, "a list of mappings with the primary key and what changed"),
        ([None], "returned None, which is no changed row"),
        ([{"name": "x"}], 'for example [{"id": row["id"], ...}]'),
        ([{"id": 99, "name": "x"}], "key (99,), which is none of the rows that it was given"),
        ([{"id": 1, "name": "x"}, {"id": 1, "name": "y"}], "or was returned twice"),
        ([{"id": 1, "nmae": "x"}], "returned column 'nmae', which table 'hero' does not have"),
        ([{"id": 1, "initial": "x"}], "changed column 'initial' of table 'hero', which the database alone writes"),
    ],
)
async def test_what_cannot_be_returned(run: Run, database: Database, returned: object, said: str) -> None:
    """What is no row of the chunk fails the run with one clear line, and nothing is written."""

    async def function(_: JobContext, rows: GivenRows) -> Any:
        return returned if rows[0]["id"] == 1 else None

    outcome = await run(function)
    assert isinstance(outcome, Failed)
    assert said in outcome.error.message
    assert await rows_of(database, "SELECT count(*) FROM hero WHERE name LIKE 'hero %'") == [(HEROES,)]


async def test_a_cancelled_run_gives_its_connections_back(make_runner: MakeRunner) -> None:
    """A task that is cancelled inside of a processor holds no connection."""
    reached = asyncio.Event()

    async def function(_: JobContext, rows: GivenRows) -> ChangedRows:
        del rows
        reached.set()
        await asyncio.Event().wait()
        return None

    CURRENT["current"] = function
    runner = replace(make_runner(), tables=find_tables(MODELS, {}))
    params = {"table": "hero", "processor": "current", "snapshot": True}
    running = asyncio.ensure_future(runner.run(Delivery("p", "stream_process", params, {}, "arq:queue", 1)))
    await reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert runner.ledger.database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # a queue pool's


async def test_an_unknown_processor(run: Run) -> None:
    """A name that no function has is refused with those that exist."""
    outcome = await run(processor="strenghten")
    assert isinstance(outcome, Failed)
    assert "No processor is called 'strenghten'. Did you mean 'strengthen'?" in outcome.error.message


async def test_a_where_that_the_table_cannot_answer(run: Run) -> None:
    """What does not fit the table fails the run with one clear line."""
    outcome = await run(processor="strengthen", where={"strenght": {"eq": 1}})
    assert isinstance(outcome, Failed)
    assert "Did you mean 'strength'?" in outcome.error.message


def not_async(ctx: JobContext, rows: GivenRows) -> ChangedRows:
    """No coroutine function."""
    del ctx, rows
    return None


async def of_one(rows: GivenRows) -> None:
    """No room for the context."""


async def of_three(ctx: JobContext, rows: GivenRows, more: int) -> None:
    """One that would never be given."""


async def other(ctx: JobContext, rows: GivenRows, *, room: Iterable[int] = ()) -> None:
    """Sound: it can be called with two."""


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (not_async, "no coroutine function"),
        (of_one, "cannot be called with a context and rows (too many positional arguments)"),
        (of_three, "missing a required argument: 'more'"),
    ],
)
def test_mistakes_are_found_at_import(function: Callable[..., Any], said: str) -> None:
    """What cannot be a processor is refused where it is declared, with one that can."""
    with pytest.raises(DeclarationError) as raised:
        processor(registry=Processors())(function)
    assert said in str(raised.value)
    assert "for example: async def tidy(ctx: JobContext, rows: GivenRows)" in str(raised.value)


def test_two_of_one_name() -> None:
    """A name is given once; the same function again, as after a reload of its module, is no second one."""
    found = Processors()
    assert processor(name="tidy", registry=found)(other) is other
    processor(name="tidy", registry=found)(other)
    with pytest.raises(DeclarationError, match="Two processors are called 'tidy'"):
        processor(name="tidy", registry=found)(strengthen)
