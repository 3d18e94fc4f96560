"""`transfer_rows`: rows that move and the audit rows that say so, on each database."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import pytest
from sqlalchemy import CHAR, Column, ForeignKeyConstraint, Integer, MetaData, String, Table, func, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine
from sqlmodel import SQLModel

from tests.conftest import MakeRunner
from tests.support.chosen import Backend
from tests.support.league_models import BENCH, HERO, LEAGUE, TEAM, Form
from tests.support.lock_waits import until_somebody_waits
from tests.support.own_session import Rows, analyze, execute, put, rows_of, value_of
from tests.support.rebuild import rebuild
from tests.support.refused_as import refused_by
from tests.support.row_triggers import swallow
from worker.core.events import ChunkCommitted, Event
from worker.core.outcomes import Failed, Interrupted, Outcome, Succeeded
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database
from worker.database.tables import MOVES, PROGRESS, QUARANTINE
from worker.declare.tables import find_tables
from worker.run.runner import Runner
from worker.run.stop_signal import StopSignal

HEROES = 100
REASON = "the season ended"
MODELS = ("tests.support.league_models",)

Run = Callable[..., Awaitable[Outcome]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of ten rows, always."""
    return settings.model_copy(update={"chunk_start_rows": 10, "chunk_min_rows": 10, "chunk_max_rows": 10})


@pytest.fixture(autouse=True)
async def league(database: Database) -> None:
    """Three teams; a hundred heroes, numbered from 1, of whom every second is in team 1, the others in none."""
    async with database.engine.begin() as connection:
        await connection.run_sync(SQLModel.metadata.create_all, [model.__table__ for model in LEAGUE])  # type: ignore[attr-defined]  # SQLModel sets it
    await put(database, TEAM, [{"id": n, "name": f"team {n}"} for n in (1, 2, 3)])
    heroes = [
        {"id": n, "name": f"hero {n}", "team_id": None if n % 2 else 1, "strength": 1, "active": True}
        for n in range(1, HEROES + 1)
    ]
    await put(database, HERO, heroes)


@pytest.fixture
def runner(make_runner: MakeRunner) -> Runner:
    """A runner that knows the league."""
    return replace(make_runner(), tables=find_tables(MODELS, {}))


@pytest.fixture
def run(runner: Runner) -> Run:
    """A function that runs `transfer_rows` to its end, or to where it is stopped."""

    async def run_once(
        *, run_id: str = "t", everything: bool = False, stop_after: int | None = None, **params: Any
    ) -> Outcome:
        stop = StopSignal()
        given = {"table": "hero", "column": "team_id", "to": 2, "reason": REASON} | params
        options: dict[str, object] = {"all": True} if everything else {}
        stopping: Runner = replace(runner, stop=stop, emit=partial(stop_at, stop, [], stop_after))
        return await stopping.run(Delivery(run_id, "transfer_rows", given, options, "arq:queue", 1))

    return run_once


def stop_at(stop: StopSignal, seen: list[Event], number: int | None, event: Event) -> None:
    """Ask a worker to stop once so many chunks are committed."""
    if isinstance(event, ChunkCommitted):
        seen.append(event)
        if len(seen) == number:
            stop.set()


def counts(outcome: Outcome) -> tuple[int, int, int]:
    """Moved, unchanged, missing."""
    assert isinstance(outcome, Succeeded), outcome
    result: Any = outcome.result
    assert set(result) == {"moved", "unchanged", "missing"}
    return result["moved"], result["unchanged"], result["missing"]


async def audit(database: Database) -> Rows:
    """The audit rows' keys, old and new values, in the order in which they were written."""
    moves = MOVES.c
    return await rows_of(database, select(moves.row_key, moves.old_value, moves.new_value).order_by(moves.id))


async def test_rows_of_a_where_move_and_say_so(run: Run, database: Database) -> None:
    """Each row that is meant and differs moves, with one audit row; the others stay without one."""
    await execute(database, "UPDATE hero SET team_id = 2 WHERE id IN (4, 6)")
    outcome = await run(where={"team_id": {"is_null": False}})
    assert counts(outcome) == (48, 2, 0)
    moved = [n for n in range(2, HEROES + 1, 2) if n not in {4, 6}]
    assert await audit(database) == [({"id": n}, 1, 2) for n in moved]
    assert await rows_of(database, "SELECT id FROM hero WHERE team_id = 2 ORDER BY id") == [
        (n,) for n in range(2, HEROES + 1, 2)
    ]


async def test_an_audit_row_says_who_when_what_and_why(run: Run, database: Database) -> None:
    """Run, table, key, column, reason, actor and moment stand beside the two values."""
    await run(run_id="who", ids=[5], reason="  sold to team 2 ")
    now = datetime.now(UTC)
    moves = MOVES.c
    found = (moves.run_id, moves.table_name, moves.row_key, moves.column_name, moves.reason, moves.actor)
    ((*told, moved_at),) = await rows_of(database, select(*found, moves.moved_at))
    assert told == ["who", "hero", {"id": 5}, "team_id", "sold to team 2", "one"]
    assert abs(now - moved_at) < timedelta(minutes=1)


async def test_ids_move_each_once(run: Run, database: Database) -> None:
    """Ids that are named twice, in whichever form, count once; those without a row are missing."""
    outcome = await run(ids=[7, 3, "7", 3, 2, {"id": 9}, 1000, -1, 1000])
    assert counts(outcome) == (4, 0, 2)
    assert sorted(key["id"] for key, _, _ in await audit(database)) == [2, 3, 7, 9]


async def test_a_second_run_finds_nothing_to_do(run: Run, database: Database) -> None:
    """Rows that hold the value already are counted as unchanged, and get no audit row."""
    await run(run_id="first", everything=True)
    before = await audit(database)
    assert counts(await run(run_id="second", everything=True)) == (0, HEROES, 0)
    assert await audit(database) == before


@pytest.mark.parametrize("form", ["where", "ids"])
async def test_interrupted_at_each_chunk(run: Run, database: Database, form: str) -> None:
    """A run stopped after each chunk in turn moves each row once, and its counts are those of a whole one."""
    given: Mapping[str, Any] = {"ids": [*range(1, 61), *range(1000, 1010)]} if form == "ids" else {"everything": True}
    stops = 0
    while isinstance(outcome := await run(stop_after=1, **given), Interrupted):
        stops += 1
    total, missing = (60, 10) if form == "ids" else (HEROES, 0)
    assert stops == (total + missing) // 10
    assert counts(outcome) == (total, 0, missing)
    assert sorted(key["id"] for key, _, _ in await audit(database)) == list(range(1, total + 1))


@asynccontextmanager
async def while_changed(runner: Runner, backend: Backend, *changes: str) -> AsyncIterator[None]:
    """Another session's changes, which are committed as soon as somebody waits for them."""
    database = runner.ledger.database
    async with database.engine.connect() as other:
        for change in changes:
            await other.execute(text(change))
        async with until_somebody_waits(database, backend):
            yield
        await other.commit()


@pytest.mark.parametrize("form", ["where", "ids"])
async def test_the_old_value_is_the_one_under_the_lock(
    run: Run, runner: Runner, database: Database, backend: Backend, form: str
) -> None:
    """What another session writes before the row can be locked is what the audit row says, and decides what moves."""
    given: Mapping[str, Any] = {"ids": [2, 4, 6]} if form == "ids" else {"where": {"id": {"in": [2, 4, 6]}}}
    changes = ("UPDATE hero SET team_id = 3 WHERE id = 4", "UPDATE hero SET team_id = 2 WHERE id = 6")
    async with while_changed(runner, backend, *changes):
        running = asyncio.ensure_future(run(**given))
    assert counts(await running) == (2, 1, 0)
    assert await audit(database) == [({"id": 2}, 1, 2), ({"id": 4}, 3, 2)]


@pytest.mark.parametrize(
    ("asked", "moved", "unchanged", "looked_at"),
    [({"eq": 3}, 2, 0, 2), ({"in": [2, 3]}, 2, 2, HEROES), ({"ge": 2}, 2, 2, HEROES)],
)
async def test_few_rows_are_found_by_their_index(
    run: Run, database: Database, asked: object, moved: int, unchanged: int, looked_at: int
) -> None:
    """Rows of one value are walked along its index, and none is met again where it has moved to."""
    await execute(database, "UPDATE hero SET team_id = 3 WHERE id IN (10, 90)")
    await execute(database, "UPDATE hero SET team_id = 2 WHERE id IN (11, 91)")
    await execute(database, "CREATE INDEX by_team ON hero (team_id, id)")
    await analyze(database, "hero")
    assert counts(await run(where={"team_id": asked})) == (moved, unchanged, 0)
    assert await value_of(database, "SELECT done FROM heavylift_progress") == looked_at


async def test_a_row_that_leaves_the_where_is_not_moved(
    run: Run, runner: Runner, database: Database, backend: Backend
) -> None:
    """A row that another session takes out of the `where` before it can be locked stays where that one put it."""
    async with while_changed(runner, backend, "UPDATE hero SET team_id = 3 WHERE id = 4"):
        running = asyncio.ensure_future(run(where={"team_id": {"eq": 1}, "id": {"lt": 8}}))
    assert counts(await running) == (2, 0, 0)
    assert await rows_of(database, "SELECT team_id FROM hero WHERE id = 4") == [(3,)]


async def test_a_refused_row_is_put_aside_without_an_audit_row(run: Run, database: Database, backend: Backend) -> None:
    """Of a chunk the rows that the database refuses stay, are in quarantine and leave no trace; the others move."""
    await refer_to_pairs(database)
    await assert_three_stay(run, database, backend)


@pytest.mark.only_on("postgresql", why="SQLite cannot be asked to check before the COMMIT, and MariaDB never waits")
async def test_a_row_that_would_be_refused_at_the_commit(run: Run, database: Database, backend: Backend) -> None:
    """A foreign key that waits for the COMMIT refuses single rows all the same."""
    await refer_to_pairs(database, deferrable=True, initially="DEFERRED")
    await assert_three_stay(run, database, backend)


async def refer_to_pairs(database: Database, **how: Any) -> None:
    """See that heroes may be in the teams that a table names for each: three may not be in team 2."""
    ids = (Column("hero_id", Integer, primary_key=True), Column("team_id", Integer, primary_key=True))
    pair = Table("pair", MetaData(), *ids)
    async with database.engine.begin() as connection:
        await connection.run_sync(pair.create)
    pairs = [(hero, team) for hero in range(1, 101) for team in (1, 2, 3) if (hero, team) not in {*UNPAIRED}]
    await put(database, pair, [{"hero_id": hero, "team_id": team} for hero, team in pairs])
    await execute(database, "DROP TABLE bench")
    fits = ForeignKeyConstraint(["id", "team_id"], [pair.c.hero_id, pair.c.team_id], name="fits", **how)
    await rebuild(database, HERO, fits)


UNPAIRED: Final = ((3, 2), (44, 2), (45, 2))


async def assert_three_stay(run: Run, database: Database, backend: Backend) -> None:
    """A run that moves all to team 2 moves all but three."""
    assert counts(await run(everything=True)) == (97, 0, 0)
    aside = QUARANTINE.c
    columns = (aside.position, aside.sqlstate, aside.constraint_name, aside.payload)
    assert await rows_of(database, select(*columns).order_by(aside.id)) == [
        (0, *refused_by(backend, "foreign key", "fits"), {"id": n, "team_id": 2}) for n in (3, 44, 45)
    ]
    elsewhere = "SELECT id FROM hero WHERE team_id <> 2 OR team_id IS NULL ORDER BY id"
    assert await rows_of(database, elsewhere) == [(3,), (44,), (45,)]
    assert {key["id"] for key, _, _ in await audit(database)} == set(range(1, 101)) - {3, 44, 45}
    counters = await value_of(database, select(PROGRESS.c.counters))
    assert counters["quarantined"] == 3


async def test_a_team_that_does_not_exist(run: Run, database: Database, backend: Backend) -> None:
    """Where every row is refused the run stops at fifty; what it was refused for stays to be read."""
    outcome = await run(everything=True, to=9)
    assert isinstance(outcome, Failed)
    assert outcome.error.type == "TooManyRefusedError"
    code, _ = refused_by(backend, "foreign key", "hero_team_id_fkey")
    refused = select(func.count(), func.min(QUARANTINE.c.sqlstate))
    assert await rows_of(database, refused) == [(50, code)]
    assert await audit(database) == []


async def test_a_few_refused_rows_are_no_failure(run: Run, database: Database) -> None:
    """Below fifty rows all may be refused."""
    assert counts(await run(ids=[1, 2, 3, 4, 5, 500], to=9)) == (0, 0, 1)
    assert await rows_of(database, "SELECT count(*) FROM heavylift_quarantine") == [(5,)]


@pytest.mark.only_on("postgresql", "sqlite", why="a trigger of MariaDB's cannot leave a row out without an error")
async def test_nobody_is_told_of_a_move_that_a_trigger_prevents(run: Run, database: Database, backend: Backend) -> None:
    """A trigger that skips rows in silence fails the run, with nothing of its chunk kept."""
    await execute(database, *swallow(backend, "hero", "UPDATE", "NEW.id = 15"))
    outcome = await run(everything=True)
    assert isinstance(outcome, Failed)
    assert "kept 1 of 10 rows from being moved" in outcome.error.message
    assert [key["id"] for key, _, _ in await audit(database)] == list(range(1, 11))


MOMENT: Final = "2024-05-06T07:08:09.000001"
BADGE: Final = "0189f7e5-0000-7000-8000-0000000000ff"
ON_POSTGRESQL: Final = pytest.mark.only_on("postgresql", why="infinite days, NaN and time zones are PostgreSQL's")
EXACT: Final = pytest.mark.only_on("postgresql", "mariadb", why="SQLite has no exact numbers and no UUIDs")
ON_SQLITE: Final = pytest.mark.only_on("sqlite", why="others have exact numbers and UUIDs")
ELSEWHERE: Final = pytest.mark.only_on("sqlite", "mariadb", why="databases without time zones hold moments in UTC")


@pytest.mark.parametrize(
    ("name", "before", "to", "old", "new"),
    [
        ("team_id", None, 1, None, 1),
        ("team_id", 3, None, 3, None),
        ("name", "Ann", 'Änn \\ "', "Ann", 'Änn \\ "'),
        pytest.param("strength", "1.5", "2", "1.50", "2.00", marks=EXACT),
        pytest.param("strength", "0.01", 9999999999.99, "0.01", "9999999999.99", marks=EXACT),
        pytest.param("strength", "0.01", "9999999999.99", 0.01, 9999999999.99, marks=ON_SQLITE),
        ("joined", text("'9999-12-31'"), "2024-02-29", "9999-12-31", "2024-02-29"),
        pytest.param(
            *("joined", text("'infinity'"), "9999-12-31", "infinity", "9999-12-31"), marks=ON_POSTGRESQL, id="infinity"
        ),
        pytest.param(
            *("seen_at", None, f"{MOMENT}Z", None, "2024-05-06 07:08:09.000001+00"), marks=ON_POSTGRESQL, id="moment"
        ),
        pytest.param(
            *("seen_at", None, f"{MOMENT}Z", None, "2024-05-06 07:08:09.000001"), marks=ELSEWHERE, id="moment in UTC"
        ),
        pytest.param("badge", None, BADGE, None, BADGE, marks=EXACT),
        pytest.param("badge", None, BADGE, None, BADGE.replace("-", ""), marks=ON_SQLITE),
        ("active", True, False, True, False),
        ("speed", 2.5, 0.1, 2.5, 0.1),
        pytest.param("speed", float("nan"), 0.1, "NaN", 0.1, marks=ON_POSTGRESQL, id="not a number"),
        ("emblem", b"\x00\xff", "ab", r"\x00ff", r"\x6162"),
        ("traits", text("""'{"a": 1.10}'"""), {"b": [None, "x"]}, '{"a": 1.10}', '{"b":[null,"x"]}'),
        ("form", Form.rested, "worn", "rested", "tired"),
    ],
)
async def test_both_values_are_written_as_they_are(
    run: Run, database: Database, name: str, before: object, to: object, old: object, new: object
) -> None:
    """Values of every type stand in the audit row exactly, those without a form in JSON as text."""
    await execute(database, update(HERO).values({name: before}))
    assert counts(await run(ids=[1], column=name, to=to)) == (1, 0, 0)
    assert await audit(database) == [({"id": 1}, old, new)]
    assert counts(await run(run_id="again", ids=[1], column=name, to=to)) == (0, 1, 0)


@pytest.mark.parametrize("form", ["lists", "objects", "where"])
async def test_a_key_of_two_columns(run: Run, database: Database, form: str) -> None:
    """Rows known by several columns are named by lists, in the key's order, or by objects."""
    await put(database, BENCH, [{"row": row, "number": number} for row in "ab" for number in range(1, 31)])
    wanted = [("a", 3), ("b", 3), ("b", 30)]
    forms: Mapping[str, Any] = {
        "lists": {"ids": [*map(list, wanted), ["c", 3]]},
        "objects": {"ids": [{"number": number, "row": row} for row, number in [*wanted, ("c", 3)]]},
        "where": {"where": {"or": [{"row": {"eq": row}, "number": {"eq": number}} for row, number in wanted]}},
    }
    assert counts(await run(table="bench", column="hero_id", to=5, **forms[form])) == (
        3,
        0,
        0 if form == "where" else 1,
    )
    assert await audit(database) == [({"row": row, "number": number}, None, 5) for row, number in wanted]


PADDED: Final[Mapping[Backend, TypeEngine[Any]]] = {
    "postgresql": CHAR(5),
    "sqlite": String(5, collation="RTRIM"),
    "mariadb": String(5, collation="utf8mb4_bin"),
}
"""Types of texts that are equal if they differ by spaces at the end alone."""


async def test_ids_that_the_database_holds_for_equal(run: Run, database: Database, backend: Backend) -> None:
    """Ids count as the key compares them: two that name one row are one, and none of them is missing."""
    await put(database, BENCH, [{"row": "a", "number": 1}])
    await rebuild(database, BENCH, types={"row": PADDED[backend]})
    assert counts(await run(table="bench", column="hero_id", to=5, ids=[["a", 1], ["a  ", 1]])) == (1, 0, 0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "Without a `where` every row of table 'hero' would be touched"),
        ({"where": {}}, "Without a `where` every row"),
        ({"ids": [1], "where": {"id": {"eq": 1}}}, "either `ids` or `where`, and both were given"),
        ({"ids": []}, "`ids` names no row"),
        ({"ids": list(range(10_001))}, "names 10,001 rows, more than 10,000. Say which rows are meant with `where`"),
        ({"ids": [1, [2]]}, "Number 2 of `ids` is [2], which is no value of the primary key (id)"),
        ({"ids": [1, None]}, "Number 2 of `ids` is None"),
        ({"ids": [{"number": 1}]}, "Number 1 of `ids` is {'number': 1}"),
        ({"ids": [1, "x", 2**40]}, "number 2: column 'id': Input should be a valid integer"),
        ({"ids": [2**63]}, "outside the column's range"),
        ({"ids": [["a", 1, 2]], "table": "bench", "column": "hero_id"}, "no value of the primary key (row, number)"),
        ({"ids": [1], "reason": " "}, "`reason` is empty"),
        ({"ids": [1], "column": "id"}, "part of the primary key"),
        ({"ids": [1], "column": "initial", "to": "x"}, "written by the database alone"),
        ({"ids": [1], "column": "teem_id"}, "Did you mean 'team_id'?"),
        (
            {"ids": [1], "to": "two"},
            "`to` does not fit table 'hero': column 'team_id': Input should be a valid integer",
        ),
        ({"ids": [1], "column": "name", "to": None}, "may not be null"),
        ({"ids": [1], "column": "name", "to": "x" * 21}, "at most 20 characters"),
        ({"ids": [1], "column": "strength", "to": "0.001"}, "more than 2 decimals"),
        ({"ids": [1], "table": "heroes"}, "Did you mean 'hero'?"),
        ({"where": {"team_id": {"eq": "x"}}}, "valid integer"),
    ],
)
async def test_what_cannot_be_asked(run: Run, database: Database, given: dict[str, Any], said: str) -> None:
    """What does not fit fails the run with one clear line before anything is touched."""
    outcome = await run(**given)
    assert isinstance(outcome, Failed), outcome
    assert said in outcome.error.message
    assert await audit(database) == []


async def test_updates_must_be_allowed(make_runner: MakeRunner) -> None:
    """A table whose configuration leaves `update` out is refused."""
    runner = replace(make_runner(), tables=find_tables(MODELS, {"hero": ("read", "upsert")}))
    params = {"table": "hero", "ids": [1], "column": "team_id", "to": 2, "reason": REASON}
    outcome = await runner.run(Delivery("t", "transfer_rows", params, {}, "arq:queue", 1))
    assert isinstance(outcome, Failed)
    assert outcome.error.type == "NotAllowedError"


async def test_a_column_of_the_key_that_only_the_database_knows(run: Run, database: Database) -> None:
    """What the database says is the key counts, whatever the model says."""
    await rebuild(database, BENCH, Column("hero_id", Integer, primary_key=True, autoincrement=False))
    outcome = await run(table="bench", where={"number": {"eq": 1}}, column="hero_id", to=5)
    assert isinstance(outcome, Failed)
    assert "part of the primary key that table 'bench' really has" in outcome.error.message


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE heavylift_moves SET reason = 'another'",
        "DELETE FROM heavylift_moves",
        pytest.param(
            "DELETE FROM heavylift_moves WHERE false",
            marks=pytest.mark.only_on("postgresql", why="other databases have triggers for rows only"),
        ),
        pytest.param(
            "TRUNCATE heavylift_moves",
            marks=pytest.mark.only_on("postgresql", why="SQLite has no TRUNCATE, and MariaDB's fires no trigger"),
        ),
        pytest.param(
            "SET LOCAL session_replication_role = replica; DELETE FROM heavylift_moves",
            marks=pytest.mark.only_on("postgresql", why="only its sessions can call themselves replicas"),
        ),
    ],
)
async def test_the_trail_is_only_added_to(run: Run, database: Database, statement: str) -> None:
    """The database refuses to change or remove an audit row, whoever asks, and says what to do instead."""
    await run(ids=[1])
    with pytest.raises(DBAPIError, match="only ever added to"):
        await execute(database, *statement.split("; "))
    assert len(await audit(database)) == 1
