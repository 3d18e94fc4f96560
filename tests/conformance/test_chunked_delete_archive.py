"""`chunked_delete` into an archive table: a row is in the one or in the other, never in both and never in none."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import pytest
from sqlalchemy import Column, MetaData, Table, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.util import await_only

from tests.conftest import MakeRunner
from tests.support.deleting import (
    KEPT,
    before_statements,
    delete,
    delete_runner,
    error_of,
    execute,
    make_events,
    record_of,
    result_of,
    rows_of,
)
from worker import RegisteredTable, Tables
from worker.core.settings import Settings
from worker.database.engine import Database
from worker.run.runner import Runner

OLD: Final[dict[str, object]] = {"kind": {"eq": "old"}}
EVERYWHERE: Final = "SELECT * FROM event UNION ALL SELECT * FROM kept_event ORDER BY id"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of ten rows, always."""
    return settings.model_copy(update={"chunk_start_rows": 10, "chunk_min_rows": 10, "chunk_max_rows": 10})


@pytest.fixture
async def _events(database: Database) -> None:
    await make_events(database)


pytestmark = pytest.mark.usefixtures("_events")


@pytest.mark.parametrize("archive", ["kept_event", {"table": "kept_event"}])
async def test_every_deleted_row_is_archived_whole(
    make_runner: MakeRunner, database: Database, archive: object
) -> None:
    """Both tables together hold what the one held before, to the last decimal and document."""
    before = await rows_of(database, "SELECT * FROM event ORDER BY id")
    outcome = await delete(delete_runner(make_runner), where=OLD, archive=archive)
    assert result_of(outcome) == {"deleted": 33, "archived": 33}
    assert await rows_of(database, EVERYWHERE) == before
    assert await rows_of(database, "SELECT DISTINCT kind FROM kept_event") == [("old",)]
    assert await rows_of(database, "SELECT DISTINCT kind FROM event") == [("new",)]


async def test_columns_of_the_archives_own(make_runner: MakeRunner, database: Database) -> None:
    """Columns that the archive has beyond the table's take their defaults, and computed ones are computed anew."""
    await execute(
        database,
        "ALTER TABLE event ADD twice numeric GENERATED ALWAYS AS (amount * 2) STORED, ADD half numeric DEFAULT 0.5",
        "DROP TABLE kept_event",
        "CREATE TABLE kept_event (at timestamptz NOT NULL DEFAULT now(), LIKE event INCLUDING GENERATED, why text, "
        "number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)",
    )
    tables = [
        Table(name, MetaData(), *(c._copy() for c in KEPT.columns), Column("twice"), Column("half"))
        for name in ("event", "kept_event")
    ]
    runner = delete_runner(make_runner)
    known = {table.name: RegisteredTable(table.name, table, None) for table in tables}
    object.__setattr__(runner, "tables", Tables(known, {}))
    assert result_of(await delete(runner, where=OLD, archive="kept_event")) == {"deleted": 33, "archived": 33}
    kept = await rows_of(database, "SELECT number, id, twice = amount * 2, half, at IS NULL, why FROM kept_event")
    assert min(kept) == (1, 3, True, kept[0][3], False, None)
    assert await rows_of(database, "SELECT count(*) FROM kept_event WHERE half = 0.5") == [(33,)]


UNFIT: Final = {
    "a_column_is_missing": ("ALTER TABLE kept_event DROP amount", "it has no column 'amount' (numeric(12,2))"),
    "a_column_is_narrower": ("ALTER TABLE kept_event ALTER id TYPE int", "'id' is integer, and bigint does not"),
    "a_column_is_rounder": ("ALTER TABLE kept_event ALTER amount TYPE numeric(12,1)", "'amount' is numeric(12,1)"),
    "a_column_needs_a_value": ("ALTER TABLE kept_event ADD why text NOT NULL", "a column 'why', NOT NULL and without"),
    "keys_would_be_numbered_anew": (
        "ALTER TABLE kept_event ALTER id ADD GENERATED ALWAYS AS IDENTITY",
        "the database alone writes its column 'id'",
    ),
    "the_model_knows_too_little": ("ALTER TABLE event ADD secret int", "it has no column 'secret'"),
    "it_is_a_part_of_the_table": ("ALTER TABLE kept_event INHERIT event", "inherits from the other"),
    "rows_would_vanish_by_cascade": (
        "ALTER TABLE event ADD FOREIGN KEY (id) REFERENCES event ON DELETE CASCADE",
        "cascades from table 'event' back to itself",
    ),
    "a_rule_rewrites_inserts": (
        "CREATE RULE aside AS ON INSERT TO kept_event DO INSTEAD NOTHING",
        "has rules that rewrite an insert (aside)",
    ),
}


@pytest.mark.parametrize("kind", UNFIT)
async def test_an_archive_that_would_lose_something(make_runner: MakeRunner, database: Database, kind: str) -> None:
    """An archive that cannot keep whole rows is refused before the first of them is deleted."""
    change, said = UNFIT[kind]
    await execute(database, change)
    assert said in error_of(await delete(delete_runner(make_runner), where=OLD, archive="kept_event"))
    assert await rows_of(database, "SELECT count(*) FROM ONLY event") == [(100,)]


async def test_a_column_that_the_model_lacks(make_runner: MakeRunner, database: Database) -> None:
    """A column that only the database knows would be lost, and so the archive is refused."""
    await execute(database, "ALTER TABLE event ADD secret int", "ALTER TABLE kept_event ADD secret int")
    said = error_of(await delete(delete_runner(make_runner), where=OLD, archive="kept_event"))
    assert "the model of 'event' lacks the column 'secret'" in said
    assert "the model of 'kept_event' lacks the column 'secret'" in said


async def test_an_archive_that_drops_rows_without_a_word(make_runner: MakeRunner, database: Database) -> None:
    """Where a trigger of the archive swallows a row, the chunk is undone and the run fails."""
    await execute(
        database,
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RETURN CASE WHEN NEW.id = 6 THEN NULL ELSE NEW END; END $$",
        "CREATE TRIGGER swallow BEFORE INSERT ON kept_event FOR EACH ROW EXECUTE FUNCTION swallow()",
    )
    runner = delete_runner(make_runner)
    assert "took 2 without an error" in error_of(await delete(runner, where=OLD, archive="kept_event"))
    assert await rows_of(database, "SELECT count(*) FROM event") == [(100,)]
    assert await rows_of(database, "SELECT count(*) FROM kept_event") == [(0,)]
    assert any(
        "triggers that run for each row of an insert: swallow" in note for note in (await record_of(runner)).notes
    )


async def test_rows_that_the_archive_refuses_stay(make_runner: MakeRunner, database: Database) -> None:
    """A row that violates a constraint of the archive is put aside and stays; the others go."""
    await execute(
        database, "INSERT INTO kept_event (id) VALUES (9), (60)", "ALTER TABLE kept_event ADD CHECK (id <> 30)"
    )
    runner = delete_runner(make_runner)
    outcome = await delete(runner, where=OLD, archive="kept_event")
    assert result_of(outcome) == {"deleted": 30, "archived": 30}
    assert (await record_of(runner)).counters["quarantined"] == 3
    assert await rows_of(database, "SELECT id FROM event WHERE kind = 'old' ORDER BY id") == [(9,), (30,), (60,)]
    aside = await rows_of(
        database, "SELECT sqlstate, constraint_name, payload->>'id', payload->'data'->'n' FROM heavylift_quarantine"
    )
    assert [(state, name, key) for state, name, key, _ in aside] == [
        ("23505", "kept_event_pkey", "9"),
        ("23514", "kept_event_id_check", "30"),
        ("23505", "kept_event_pkey", "60"),
    ]


async def test_a_constraint_that_would_wait_for_the_commit(make_runner: MakeRunner, database: Database) -> None:
    """A deferred constraint of the archive refuses its row alone, not the COMMIT of the whole chunk."""
    await execute(
        database,
        "ALTER TABLE kept_event DROP CONSTRAINT kept_event_pkey, ADD UNIQUE (id) DEFERRABLE INITIALLY DEFERRED",
        "INSERT INTO kept_event (id) VALUES (9)",
    )
    outcome = await delete(delete_runner(make_runner), where=OLD, archive="kept_event")
    assert result_of(outcome) == {"deleted": 32, "archived": 32}
    assert await rows_of(database, "SELECT id FROM event WHERE kind = 'old'") == [(9,)]


@pytest.mark.parametrize(
    ("allow", "said"),
    [
        (
            {"event": ("delete",), "kept_event": ("read",)},
            "An archive is inserted into, which is the operation 'upsert'. WORKER_ALLOW does not allow",
        ),
        ({"event": ("upsert",)}, "does not allow 'delete' on table 'event'"),
    ],
)
async def test_what_is_not_allowed(
    make_runner: MakeRunner, database: Database, allow: dict[str, tuple[str, ...]], said: str
) -> None:
    """Deleting must be allowed on the table, and inserting on the archive."""
    runner = delete_runner(make_runner, allow=allow)
    assert said in error_of(await delete(runner, where=OLD, archive="kept_event"))
    assert await rows_of(database, "SELECT count(*) FROM event") == [(100,)]


async def test_a_table_is_not_its_own_archive(make_runner: MakeRunner) -> None:
    """To move rows into the table that they are in would never end."""
    assert "cannot be its own archive" in error_of(await delete(delete_runner(make_runner), where=OLD, archive="event"))


Session = Callable[[], Awaitable[None]]


@asynccontextmanager
async def just_before_the_delete(runner: Runner, database: Database, *statements: str) -> AsyncIterator[list[str]]:
    """Have another session commit something when rows are locked and none is deleted yet; the errors it met."""
    met: list[str] = []
    done = False

    async def other_session() -> None:
        for statement in statements:
            try:
                await execute(database, "SET LOCAL lock_timeout = '50ms'", statement)
            except DBAPIError as error:
                met.append(str(getattr(error.orig, "sqlstate", None)))

    def tell(statement: str, _: object) -> None:
        nonlocal done
        if "DELETE FROM event" in statement and not done:
            done = True
            await_only(other_session())

    async with before_statements(runner, tell):
        yield met
    assert done


async def test_rows_that_begin_to_match_after_the_lock(make_runner: MakeRunner, database: Database) -> None:
    """A row that another session adds, or makes match, between lock and delete is in one of the two tables, whole."""
    await execute(database, "DELETE FROM event WHERE id = 6", "UPDATE event SET amount = 0")
    runner = delete_runner(make_runner)
    changes = (
        "INSERT INTO event (id, kind, amount) VALUES (6, 'old', 66)",
        "UPDATE event SET kind = 'old', amount = 55 WHERE id = 5",
    )
    async with just_before_the_delete(runner, database, *changes) as met:
        outcome = await delete(runner, where=OLD, archive="kept_event")
    assert met == []
    counts = result_of(outcome)
    kept = await rows_of(database, "SELECT id, amount FROM kept_event ORDER BY id")
    assert counts == {"deleted": len(kept), "archived": len(kept)}
    everywhere = await rows_of(database, "SELECT id, amount FROM event UNION ALL SELECT id, amount FROM kept_event")
    assert sorted(everywhere) == [(n, {5: 55, 6: 66}.get(n, 0)) for n in range(1, 101)]


async def test_a_locked_row_cannot_be_changed(make_runner: MakeRunner, database: Database) -> None:
    """What another session tries on a row that is about to be deleted waits: nothing slips in between."""
    runner = delete_runner(make_runner)
    changes = ("UPDATE event SET kind = 'new' WHERE id = 3", "DELETE FROM event WHERE id = 9")
    async with just_before_the_delete(runner, database, *changes) as met:
        outcome = await delete(runner, where=OLD, archive="kept_event")
    assert met == ["55P03", "55P03"]
    assert result_of(outcome) == {"deleted": 33, "archived": 33}


async def wait_for_a_waiter(connection: AsyncConnection) -> None:
    """Wait until some session waits for a lock."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    while not (await connection.execute(waiting)).scalar_one():
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("change", "deleted", "last"),
    [
        ("UPDATE event SET amount = 77 WHERE id = 3", 33, [(3, 77, "kept")]),
        ("UPDATE event SET kind = 'new', amount = 77 WHERE id = 3", 32, [(3, 77, "left")]),
        ("DELETE FROM event WHERE id = 3", 32, []),
    ],
)
async def test_a_row_that_another_session_is_changing(
    make_runner: MakeRunner, database: Database, change: str, deleted: int, last: list[tuple[object, ...]]
) -> None:
    """The chunk waits for the other session, and goes by what it made of the row."""
    async with database.engine.connect() as other, database.engine.connect() as observer:
        await other.execute(text(change))
        run = asyncio.create_task(delete(delete_runner(make_runner), where=OLD, archive="kept_event"))
        await wait_for_a_waiter(await observer.execution_options(isolation_level="AUTOCOMMIT"))
        await other.commit()
        outcome = await run
    assert result_of(outcome) == {"deleted": deleted, "archived": deleted}
    where_it_is = (
        "SELECT id, amount, 'left' FROM event WHERE id = 3 "
        "UNION ALL SELECT id, amount, 'kept' FROM kept_event WHERE id = 3"
    )
    assert await rows_of(database, where_it_is) == last
