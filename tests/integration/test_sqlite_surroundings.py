"""What stands around a table of SQLite's: foreign keys, followed where they cascade, and triggers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, Table

from tests.support.sqlite_tables import SqliteWork, sqlite_work
from worker.core.errors import RequestError
from worker.core.preflight import Change, Reference, Surroundings, Trigger, judge
from worker.database.sqlite.surroundings import read_surroundings

TEAM = Table("team", MetaData(), Column("id", Integer, primary_key=True))


@pytest.fixture
async def work(tmp_path: Path) -> AsyncIterator[SqliteWork]:
    """A file of the test's own."""
    async with sqlite_work(tmp_path / "test.db") as found:
        yield found


async def around(work: SqliteWork, change: Change = "delete") -> Surroundings:
    """What stands around the teams."""
    async with work.database.reading() as connection:
        return await read_surroundings(connection, TEAM, change)


async def test_references(work: SqliteWork) -> None:
    """A foreign key is told with what becomes of its rows, whether an index leads to them, and what would."""
    await work.execute(
        "CREATE TABLE team (id INTEGER PRIMARY KEY, code TEXT UNIQUE)",
        'CREATE TABLE hero (id INTEGER PRIMARY KEY, "the team" INTEGER REFERENCES Team ON DELETE SET NULL)',
        "CREATE TABLE visit (id INTEGER PRIMARY KEY, code TEXT REFERENCES team (code) ON UPDATE CASCADE)",
        "CREATE INDEX by_code ON visit (code)",
        "INSERT INTO team VALUES (1, 'a')",
        "INSERT INTO hero VALUES (1, 1), (2, NULL)",
    )
    assert (await around(work)).references == (
        Reference(
            name="FOREIGN KEY (the team)",
            table="hero",
            columns=("the team",),
            target="team",
            targets=("id",),
            on_delete="set null",
            on_update="no action",
            indexed=False,
            rows=2,
            remedy='CREATE INDEX "hero_the team_idx" ON hero ("the team")',
        ),
        Reference(
            name="FOREIGN KEY (code)",
            table="visit",
            columns=("code",),
            target="team",
            targets=("code",),
            on_delete="no action",
            on_update="cascade",
            indexed=True,
            rows=0,
            remedy="CREATE INDEX visit_code_idx ON visit (code)",
        ),
    )


async def test_cascades_are_followed(work: SqliteWork) -> None:
    """What a cascade deletes is referred to as well; an update does not reach so far."""
    await work.execute(
        "CREATE TABLE team (id INTEGER PRIMARY KEY, up INTEGER REFERENCES team (id))",
        "CREATE TABLE hero (id INTEGER PRIMARY KEY, team INTEGER REFERENCES team ON DELETE CASCADE)",
        "CREATE TABLE deed (a INTEGER, b INTEGER, FOREIGN KEY (a) REFERENCES hero (id) ON DELETE CASCADE)",
        "CREATE TABLE song (deed INTEGER REFERENCES deed)",
        "CREATE TABLE other (id INTEGER PRIMARY KEY, hero INTEGER)",
    )
    assert {(key.table, key.target) for key in (await around(work)).references} == {
        ("team", "team"),
        ("hero", "team"),
        ("deed", "hero"),
        ("song", "deed"),
    }
    assert {key.table for key in (await around(work, "update")).references} == {"team", "hero"}


async def test_an_index_that_leaves_rows_out_leads_nowhere(work: SqliteWork) -> None:
    """A partial index is none for a foreign key; a primary key that starts with its column is one."""
    await work.execute(
        "CREATE TABLE team (id INTEGER PRIMARY KEY)",
        "CREATE TABLE a (team INTEGER REFERENCES team, x INTEGER)",
        "CREATE INDEX part ON a (team) WHERE x > 0",
        "CREATE TABLE b (team INTEGER PRIMARY KEY REFERENCES team)",
        "CREATE TABLE c (team INTEGER REFERENCES team, x INTEGER, PRIMARY KEY (team, x)) WITHOUT ROWID",
        "CREATE TABLE d (team INTEGER REFERENCES team, x INTEGER, PRIMARY KEY (x, team))",
    )
    assert {key.table: key.indexed for key in (await around(work)).references} == {
        "a": False,
        "b": True,
        "c": True,
        "d": False,
    }


async def test_a_large_table_without_an_index_is_refused(work: SqliteWork) -> None:
    """Where every deleted row would have a hundred thousand read, the run does not begin."""
    await work.execute(
        "CREATE TABLE team (id INTEGER PRIMARY KEY)",
        "CREATE TABLE hero (id INTEGER PRIMARY KEY, team INTEGER REFERENCES team)",
        "INSERT INTO hero SELECT v, NULL FROM (WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n "
        "WHERE v < 100001) SELECT v FROM n)",
    )
    (refusal,) = judge(await around(work), "delete").refusals
    assert "Create one: CREATE INDEX hero_team_idx ON hero (team)" in refusal


async def test_triggers(work: SqliteWork) -> None:
    """A trigger is told for the change that sets it off, with the columns that it waits for."""
    await work.execute(
        "CREATE TABLE team (id INTEGER PRIMARY KEY, a TEXT, b TEXT)",
        'CREATE TRIGGER IF NOT EXISTS "on UPDATE OF a" AFTER DELETE ON team BEGIN SELECT 1; END',
        'CREATE TRIGGER [of two] /* INSERT */ BEFORE -- DELETE\n UPDATE OF a , "b" ON team BEGIN SELECT 1; END',
        "CREATE TRIGGER plain INSERT ON team BEGIN SELECT 1; END",
        "CREATE TRIGGER any_update update on Team when new.a = 'DELETE' begin select 1; end",
    )
    assert (await around(work)).triggers == (Trigger("on UPDATE OF a", each_row=True),)
    assert (await around(work, "update")).triggers == (
        Trigger("any_update", each_row=True),
        Trigger("of two", each_row=True, columns=("a", "b")),
    )
    assert (await around(work, "insert")).triggers == (Trigger("plain", each_row=True),)


async def test_deferred(work: SqliteWork) -> None:
    """A constraint that waits for COMMIT is known by the table that it points at."""
    await work.execute("CREATE TABLE team (id INTEGER PRIMARY KEY)")
    assert not (await around(work)).deferred
    await work.execute("CREATE TABLE hero (team INTEGER REFERENCES team DEFERRABLE INITIALLY DEFERRED)")
    assert (await around(work)).deferred


async def test_missing(work: SqliteWork) -> None:
    """A table that is not there is told by name."""
    with pytest.raises(RequestError, match="'team' is registered, but this database has none of that name"):
        await around(work)
