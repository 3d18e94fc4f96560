"""What an upsert through `SqliteMerge` does and counts, in real files."""

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Numeric, String, Table, UniqueConstraint, exc, func, text

from tests.support.sqlite_tables import Row, SqliteWork, sqlite_work
from worker.core.errors import KeyNotUniqueError, RequestError, UnknownColumnError
from worker.core.merge_counts import MergeCounts
from worker.database.sqlite.merge import SqliteMerge
from worker.database.sqlite.row_update import SqliteRowUpdate


@pytest.fixture
async def work(tmp_path: Path) -> AsyncIterator[SqliteWork]:
    """A file of the test's own."""
    async with sqlite_work(tmp_path / "test.db") as found:
        yield found


def heroes(*more: Any) -> Table:
    """A plain table."""
    return Table(
        "heroes",
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("name", String(20)),
        Column("power", Numeric(6, 2)),
        *more,
    )


async def test_counts(work: SqliteWork) -> None:
    """Each row is inserted, updated, unchanged or superseded, and of several with one key the last counts."""
    table = await work.create(heroes())
    first = [{"id": number, "name": f"hero {number}"} for number in range(3)]
    assert await work.upsert(table, first) == MergeCounts(inserted=3, updated=0, unchanged=0, duplicates=0)
    second: list[Row] = [
        {"id": 7, "name": "an early one"},
        {"id": 1, "name": "renamed"},
        {"id": 2, "name": "a late change"},
        {"id": 2, "name": "hero 2"},
        {"id": 7, "name": "the last one"},
        {"id": 7, "name": None},
    ]
    assert await work.upsert(table, second) == MergeCounts(inserted=1, updated=1, unchanged=1, duplicates=3)
    assert await work.content(table) == [
        (0, "hero 0", None),
        (1, "renamed", None),
        (2, "hero 2", None),
        (7, None, None),
    ]


async def test_unchanged_rows_are_not_written(work: SqliteWork) -> None:
    """A row with nothing to change sets off no trigger."""
    table = await work.create(heroes())
    rows = [{"id": number, "name": "x", "power": None} for number in range(5)]
    await work.upsert(table, rows)
    await work.execute(
        "CREATE TRIGGER untouched BEFORE UPDATE ON heroes BEGIN SELECT RAISE(ABORT, 'it was written'); END"
    )
    assert await work.upsert(table, rows) == MergeCounts(inserted=0, updated=0, unchanged=5, duplicates=0)


async def test_some_columns(work: SqliteWork) -> None:
    """A new row takes all given columns, an existing one those of `update` only."""
    table = await work.create(heroes())
    await work.upsert(table, [{"id": 1, "name": "old", "power": 1}])
    rows = [{"id": number, "name": "new", "power": 2} for number in (1, 2)]
    assert await work.upsert(table, rows, update=["power"]) == MergeCounts(1, 1, 0, 0)
    assert await work.content(table) == [(1, "old", 2), (2, "new", 2)]


async def test_no_update(work: SqliteWork) -> None:
    """With nothing to update, existing rows stay as they are and new ones are inserted."""
    table = await work.create(heroes())
    await work.upsert(table, [{"id": 1, "name": "old"}])
    rows = [{"id": number, "name": "new"} for number in (1, 2, 2)]
    assert await work.upsert(table, rows, update=[]) == MergeCounts(inserted=1, updated=0, unchanged=1, duplicates=1)
    assert await work.content(table) == [(1, "old", None), (2, "new", None)]


async def test_another_unique_key(work: SqliteWork) -> None:
    """Rows are told apart by any unique key, and an absent primary key is the next number."""
    table = Table("people", MetaData(), Column("id", Integer, primary_key=True))
    table.append_column(Column("mail", String(40), unique=True))
    table.append_column(Column("name", String(40)))
    await work.create(table)
    rows: list[Row] = [{"mail": "a@x", "name": "A"}, {"mail": "b@x", "name": "B"}]
    assert await work.upsert(table, rows, key=["mail"]) == MergeCounts(2, 0, 0, 0)
    assert await work.upsert(table, [{"mail": "b@x", "name": "C"}], key=["mail"]) == MergeCounts(0, 1, 0, 0)
    assert await work.content(table) == [(1, "a@x", "A"), (2, "b@x", "C")]


async def test_no_number_for_the_primary_key_is_the_next_one(work: SqliteWork) -> None:
    """None for an INTEGER PRIMARY KEY that is not the key of the merge leaves the choice to the database."""
    await work.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, mail TEXT NOT NULL UNIQUE)")
    table = Table("people", MetaData(), Column("id", Integer, primary_key=True), Column("mail", String))
    rows: list[Row] = [{"id": 5, "mail": "a@x"}, {"id": None, "mail": "b@x"}]
    assert await work.upsert(table, rows, key=["mail"]) == MergeCounts(2, 0, 0, 0)
    assert await work.content(table) == [(5, "a@x"), (6, "b@x")]


@pytest.mark.parametrize("suffix", ["", " WITHOUT ROWID", " STRICT"])
@pytest.mark.parametrize("key", [["team", "number"], ["number", "team"]])
async def test_composite_key(work: SqliteWork, key: list[str], suffix: str) -> None:
    """A key of several columns may be named in any order, whatever kind of table it is of."""
    await work.execute(f"CREATE TABLE p (team TEXT, number INTEGER, name TEXT, PRIMARY KEY (team, number)){suffix}")
    columns = (Column("team", String), Column("number", Integer), Column("name", String))
    table = Table("p", MetaData(), *columns)
    rows = [{"number": number, "team": team, "name": "x"} for team in "ba" for number in (2, 1)]
    assert await work.upsert(table, rows, key=key) == MergeCounts(4, 0, 0, 0)
    rows[0]["name"] = "y"
    assert await work.upsert(table, [*rows, rows[0]], key=key) == MergeCounts(0, 1, 3, 1)
    assert (await work.update(table, [{**rows[1], "name": "z"}, {**rows[1], "number": 9}], key=key)).updated == 1
    assert await work.rows("SELECT * FROM p ORDER BY 1, 2") == [
        ("a", 1, "x"),
        ("a", 2, "x"),
        ("b", 1, "z"),
        ("b", 2, "y"),
    ]


async def test_odd_names(work: SqliteWork) -> None:
    """Names that need quoting, or that are SQL's own words, are names like any other."""
    table = Table(
        'sel"ect',
        MetaData(),
        Column("group", Integer, primary_key=True, autoincrement=False),
        Column("c0", String),
        Column('%(x)s "q"', String),
        Column("excluded", String),
    )
    await work.create(table)
    rows = [{"group": 1, "c0": "a", '%(x)s "q"': "b", "excluded": "c"}]
    assert await work.upsert(table, rows, key=["group"]) == MergeCounts(1, 0, 0, 0)
    rows[0]["c0"] = "d"
    assert await work.upsert(table, rows, key=["group"]) == MergeCounts(0, 1, 0, 0)
    assert (await work.update(table, [{**rows[0], "excluded": "e"}], key=["group"])).updated == 1
    assert await work.content(table) == [(1, "d", "b", "e")]


async def test_names_of_the_model(work: SqliteWork) -> None:
    """A column whose attribute has another name is found by the column's."""
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True, key="number"), Column("x", Integer, key="y"))
    await work.create(table)
    assert await work.upsert(table, [{"id": 1, "x": 2}]) == MergeCounts(1, 0, 0, 0)
    assert await work.upsert(table, [{"id": 1, "x": 3}]) == MergeCounts(0, 1, 0, 0)
    assert await work.content(table) == [(1, 3)]


@pytest.mark.parametrize(
    ("default", "stored"),
    [("5", 5), ("'5'", 5), ("-5", -5), ("(2 + 3)", 5), ("(abs(-5))", 5), ("+5", 5), ("TRUE", 1), ("5.0", 5)],
)
async def test_none_in_not_null_takes_the_default(work: SqliteWork, default: str, stored: object) -> None:
    """None in a column that takes no NULL becomes the database's default, in new rows and in those that are there."""
    await work.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL DEFAULT {default})")
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer))
    assert await work.upsert(table, [{"id": 1, "n": None}, {"id": 2, "n": 7}]) == MergeCounts(2, 0, 0, 0)
    assert await work.upsert(table, [{"id": 1, "n": None}, {"id": 2, "n": None}]) == MergeCounts(0, 1, 1, 0)
    assert await work.content(table) == [(1, stored), (2, stored)]


@pytest.mark.parametrize(
    ("default", "stored"), [("''", ""), ("'it''s'", "it's"), ('"quoted"', "quoted"), ("abc", "abc")]
)
async def test_a_default_of_text(work: SqliteWork, default: str, stored: str) -> None:
    """A default is read as SQLite reads it, double quotes and bare words too."""
    await work.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, n TEXT NOT NULL DEFAULT {default})")
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("n", String))
    await work.upsert(table, [{"id": 1, "n": None}])
    assert await work.content(table) == [(1, stored)]


async def test_model_defaults(work: SqliteWork) -> None:
    """Columns that are not given take the model's default, made for each row, or by the database."""
    numbers = count(1)
    table = heroes(
        Column("number", Integer, default=lambda: next(numbers)),
        Column("kind", String(9), default="plain"),
        Column("seen", String, default=func.upper("now")),
    )
    await work.create(table)
    rows = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    await work.upsert(table, rows)
    assert await work.content(table) == [(1, "a", None, 1, "plain", "NOW"), (2, "b", None, 2, "plain", "NOW")]
    assert await work.upsert(table, rows) == MergeCounts(0, 0, 2, 0)


@pytest.mark.parametrize("onupdate", ["touched", lambda: "touched", func.lower("TOUCHED"), text("'touched'")])
async def test_onupdate(work: SqliteWork, onupdate: Any) -> None:
    """A column with `onupdate` is set in rows that really change."""
    table = await work.create(heroes(Column("seen", String, onupdate=onupdate)))
    await work.upsert(table, [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}])
    await work.upsert(table, [{"id": 1, "name": "a"}, {"id": 2, "name": "c"}])
    assert await work.content(table) == [(1, "a", None, None), (2, "c", None, "touched")]
    await work.update(table, [{"id": 1, "name": "d"}])
    assert await work.content(table) == [(1, "d", None, "touched"), (2, "c", None, "touched")]


@pytest.mark.parametrize("clause", ["", " ON CONFLICT IGNORE", " ON CONFLICT REPLACE"])
async def test_another_unique_key_is_violated(work: SqliteWork, clause: str) -> None:
    """A conflict with another key is the row's error, even where the table would drop it or replace the other row."""
    await work.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, code TEXT UNIQUE{clause})")
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("code", String))
    await work.upsert(table, [{"id": 1, "code": "a"}, {"id": 2, "code": "b"}])
    with pytest.raises(exc.IntegrityError, match=r"UNIQUE constraint failed: t\.code"):
        await work.upsert(table, [{"id": 3, "code": "a"}])
    with pytest.raises(exc.IntegrityError, match=r"UNIQUE constraint failed: t\.code"):
        await work.upsert(table, [{"id": 2, "code": "a"}])
    with pytest.raises(exc.IntegrityError, match=r"UNIQUE constraint failed: t\.code"):
        await work.update(table, [{"id": 2, "code": "a"}])
    assert await work.content(table) == [(1, "a"), (2, "b")]


async def test_rows_that_a_trigger_passes_over_are_not_counted(work: SqliteWork) -> None:
    """What RAISE(IGNORE) keeps from being inserted or changed is neither inserted nor updated."""
    table = await work.create(heroes())
    await work.upsert(table, [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}])
    guard = "BEFORE {} ON heroes WHEN new.name = 'no' BEGIN SELECT RAISE(IGNORE); END"
    await work.execute(*(f"CREATE TRIGGER on_{event} {guard.format(event)}" for event in ("insert", "update")))
    rows = [
        {"id": 1, "name": "c"},
        {"id": 2, "name": "b"},
        {"id": 3, "name": "no"},
        {"id": 4, "name": "d"},
    ]
    assert await work.upsert(table, rows) == MergeCounts(inserted=1, updated=1, unchanged=2, duplicates=0)
    assert await work.content(table) == [(1, "c", None), (2, "b", None), (4, "d", None)]


async def test_generated_columns_are_refused(work: SqliteWork) -> None:
    """A column that the database computes takes no value."""
    await work.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, twice INTEGER GENERATED ALWAYS AS (id * 2))")
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("twice", Integer))
    with pytest.raises(RequestError, match="'twice' of table 't' is written by the database alone"):
        await work.upsert(table, [{"id": 1, "twice": 5}])
    assert await work.upsert(table, [{"id": 1}]) == MergeCounts(1, 0, 0, 0)


@pytest.mark.parametrize(
    ("columns", "key", "update", "error"),
    [
        (["id", "nothing"], ["id"], [], UnknownColumnError),
        (["id", "id"], ["id"], [], RequestError),
        (["id", "name"], ["name"], [], KeyNotUniqueError),
        (["name"], ["id"], [], RequestError),
        (["id"], ["id"], ["name"], RequestError),
    ],
)
async def test_misuse(
    work: SqliteWork, columns: list[str], key: list[str], update: list[str], error: type[Exception]
) -> None:
    """What could not work is refused before anything is sent."""
    table = await work.create(heroes(UniqueConstraint("power")))
    with pytest.raises(error):
        SqliteMerge(table, await work.facts(table), columns=columns, key=key, update=update)


@pytest.mark.parametrize("way", [SqliteMerge, SqliteRowUpdate])
async def test_a_huge_table_is_never_read_for_a_few_rows(work: SqliteWork, way: Any) -> None:
    """Rows are found by the key's index, even where statistics take the table for small and the rows for many."""
    numbers = (
        "WITH RECURSIVE n (v) AS (SELECT {} UNION ALL SELECT v + 1 FROM n WHERE v < {}) SELECT v % 10, v, 0 FROM n"
    )
    await work.execute(
        "CREATE TABLE t (a INTEGER, b TEXT, n INTEGER, PRIMARY KEY (a, b)) WITHOUT ROWID",
        f"INSERT INTO t {numbers.format(1, 30)}",
        "ANALYZE",
        f"INSERT INTO t {numbers.format(31, 200_000)}",
    )
    table = Table("t", MetaData(), Column("a", Integer), Column("b", String), Column("n", Integer))
    rows = [{"a": number % 10, "b": str(number), "n": 1} for number in range(1, 101)]
    more = {"update": ["n"]} if way is SqliteMerge else {}
    changing = way(table, await work.facts(table), columns=["a", "b", "n"], key=["a", "b"], **more)
    looks = count()
    async with work.database.engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.set_progress_handler(lambda: next(looks) < 0, 100)
        counts = await changing.apply(connection, [[row[name] for row in rows] for name in ("a", "b", "n")])
        assert counts.updated == counts.rows == 100
    assert next(looks) * 100 < 200_000
