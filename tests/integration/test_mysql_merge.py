"""What an upsert through `MySqlMerge` does and counts, on a real MariaDB."""

from itertools import count
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    UniqueConstraint,
    exc,
    func,
    text,
)

from tests.support.mysql_tables import Merging
from worker.core.errors import KeyNotUniqueError, RequestError, UnknownColumnError
from worker.core.merge_counts import MergeCounts
from worker.database.mysql.merge import MySqlMerge
from worker.database.mysql.row_insert import number_of


def heroes() -> Table:
    """A plain table."""
    return Table(
        "heroes",
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("name", String(20)),
        Column("power", Numeric(6, 2)),
    )


def people() -> Table:
    """A table that the database numbers, with a unique key besides."""
    table = Table("people", MetaData(), Column("id", Integer, primary_key=True))
    table.append_column(Column("email", String(50), unique=True))
    table.append_column(Column("age", Integer))
    return table


async def test_counts(merging: Merging) -> None:
    """Each row is inserted, updated, unchanged or superseded, and of several with one key the last counts."""
    table = await merging.create(heroes())
    first = [{"id": number, "name": f"hero {number}"} for number in range(3)]
    assert await merging.upsert(table, first) == MergeCounts(inserted=3, updated=0, unchanged=0, duplicates=0)
    second: list[dict[str, object]] = [
        {"id": 7, "name": "an early one"},
        {"id": 1, "name": "renamed"},
        {"id": 2, "name": "a late change"},
        {"id": 2, "name": "hero 2"},
        {"id": 7, "name": "the last one"},
        {"id": 7, "name": None},
    ]
    assert await merging.upsert(table, second) == MergeCounts(inserted=1, updated=1, unchanged=1, duplicates=3)
    assert await merging.content(table) == [
        (0, "hero 0", None),
        (1, "renamed", None),
        (2, "hero 2", None),
        (7, None, None),
    ]


async def test_some_columns(merging: Merging) -> None:
    """A new row takes all given columns, an existing one those of `update` only."""
    table = await merging.create(heroes())
    await merging.upsert(table, [{"id": 1, "name": "old", "power": 1}])
    rows = [{"id": number, "name": "new", "power": 2} for number in (1, 2)]
    assert await merging.upsert(table, rows, update=["power"]) == MergeCounts(1, 1, 0, 0)
    assert await merging.content(table) == [(1, "old", 2), (2, "new", 2)]


async def test_no_update(merging: Merging) -> None:
    """With nothing to update, existing rows stay as they are and new ones are inserted."""
    table = await merging.create(heroes())
    await merging.upsert(table, [{"id": 1, "name": "old"}])
    rows = [{"id": number, "name": "new"} for number in (1, 2, 2)]
    assert await merging.upsert(table, rows, update=[]) == MergeCounts(inserted=1, updated=0, unchanged=1, duplicates=1)
    assert await merging.content(table) == [(1, "old", None), (2, "new", None)]


async def test_another_unique_key(merging: Merging) -> None:
    """Rows are told apart by any unique key, and an absent primary key is numbered, without a gap for known rows."""
    table = await merging.create(people())
    await merging.upsert(table, [{"email": "a", "age": 1}], key=["email"])
    for age in range(2, 9):
        rows = [{"email": f"b{age}", "age": 2}, {"email": "a", "age": age}]
        assert await merging.upsert(table, rows, key=["email"]) == MergeCounts(1, 1, 0, 0)
    assert [row[0] for row in await merging.content(table)] == list(range(1, 9))


@pytest.mark.parametrize("key", [["a", "b"], ["b", "a"]])
async def test_composite_key(merging: Merging, key: list[str]) -> None:
    """A composite key is found whatever order its columns are named in."""
    table = Table("pairs", MetaData(), Column("id", Integer, primary_key=True))
    for column in (Column("a", Integer), Column("b", String(9)), Column("n", Integer), UniqueConstraint("b", "a")):
        table.append_column(column) if isinstance(column, Column) else table.append_constraint(column)
    await merging.create(table)
    rows = [{"n": 1, "a": 1, "b": "x"}, {"n": 2, "a": 1, "b": "y"}, {"n": 3, "a": 1, "b": "x"}]
    assert await merging.upsert(table, rows, key=key) == MergeCounts(inserted=2, updated=0, unchanged=0, duplicates=1)
    assert sorted(row[1:] for row in await merging.content(table)) == [(1, "x", 3), (1, "y", 2)]


@pytest.mark.parametrize(
    "case",
    [
        ("Order", ("select", "a`b")),
        ("a%b", ("per%cent", "MixedCase")),
        ("old", ("old", "new")),
        ("place", ("c0", "c1")),
        ("ключ: 1", (":colon", "v0")),
        ("values", ("met", "row")),
    ],
)
async def test_odd_names(merging: Merging, case: tuple[str, tuple[str, str]]) -> None:
    """No name of a table or column can be mistaken for something else."""
    name, (first, second) = case
    table = Table(name, MetaData(), Column(first, Integer, primary_key=True), Column(second, String(9)))
    await merging.create(table)
    await merging.upsert(table, [{first: 1, second: "x"}, {first: 2, second: "x"}], key=[first])
    rows = [{first: 1, second: "x"}, {first: 2, second: "y"}, {first: 3, second: "z"}]
    assert await merging.upsert(table, rows, key=[first]) == MergeCounts(1, 1, 1, 0)
    assert await merging.content(table) == [(1, "x"), (2, "y"), (3, "z")]


async def test_another_database(merging: Merging) -> None:
    """A table may be in another database of the server, which its model names."""
    await merging.execute("CREATE DATABASE IF NOT EXISTS `My.Schema`")
    table = Table("table", MetaData(), Column("id", Integer, primary_key=True), schema="My.Schema")
    table.append_column(Column("select", String(9)))
    try:
        await merging.create(table)
        for counts in (MergeCounts(1, 0, 0, 0), MergeCounts(0, 0, 1, 0)):
            assert await merging.upsert(table, [{"id": 1, "select": "x"}]) == counts
    finally:
        await merging.execute("DROP DATABASE `My.Schema`")


async def test_names_of_the_model(merging: Merging) -> None:
    """Columns go by the database's names, whatever the model calls them."""
    table = Table("named", MetaData(), Column("id", Integer, primary_key=True, key="ident"))
    table.append_column(Column("n", Integer, key="id"))
    await merging.create(table)
    await merging.upsert(table, [{"id": 1, "n": 5}])
    assert await merging.upsert(table, [{"id": 1, "n": 6}]) == MergeCounts(0, 1, 0, 0)
    assert await merging.content(table) == [(1, 6)]


async def test_none_in_not_null_takes_the_default(merging: Merging) -> None:
    """None where NULL is not admitted is the default: the database's, a value or an expression, else the model's."""
    table = Table("defaults", MetaData(), Column("id", Integer, primary_key=True))
    for column in (Column("here", Integer), Column("model", Integer, default=5), Column("made", String(9))):
        table.append_column(column)
    await merging.execute(
        "CREATE TABLE defaults (id int PRIMARY KEY, here int NOT NULL DEFAULT 3, model int NOT NULL,"
        " made varchar(9) NOT NULL DEFAULT (concat('z', 'z')))"
    )
    rows: list[dict[str, object]] = [
        {"id": 1, "here": None, "model": None, "made": None},
        {"id": 2, "here": 1, "model": 2, "made": "a"},
    ]
    assert await merging.upsert(table, rows) == MergeCounts(2, 0, 0, 0)
    assert await merging.upsert(table, rows) == MergeCounts(0, 0, 2, 0)
    assert await merging.upsert(table, [rows[0] | {"id": 2}]) == MergeCounts(0, 1, 0, 0)
    assert await merging.content(table) == [(1, 3, 5, "zz"), (2, 3, 5, "zz")]


async def test_none_in_a_numbered_column(merging: Merging) -> None:
    """None in a column that the database numbers is the next number in a new row, and no change of a known one."""
    table = await merging.create(people())
    rows = [{"id": None, "email": email, "age": 1} for email in "ab"]
    assert await merging.upsert(table, rows, key=["email"]) == MergeCounts(2, 0, 0, 0)
    assert await merging.upsert(table, rows, key=["email"]) == MergeCounts(0, 0, 2, 0)
    assert await merging.content(table) == [(1, "a", 1), (2, "b", 1)]


async def test_zero_is_a_number(merging: Merging) -> None:
    """A numbered column takes 0 for what it is, not for the next number."""
    table = await merging.create(people())
    for counts in (MergeCounts(1, 0, 0, 0), MergeCounts(0, 0, 1, 0)):
        assert await merging.upsert(table, [{"id": 0, "email": "a"}]) == counts
    assert await merging.content(table) == [(0, "a", None)]


async def test_model_defaults(merging: Merging) -> None:
    """Columns not given take the model's default in new rows only: a value, one made for each row, or SQL."""
    numbers = count(1)
    table = Table("defaults", MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer))
    table.append_column(Column("plain", String(9), nullable=False, default="x"))
    table.append_column(Column("made", Integer, nullable=False, default=lambda: next(numbers)))
    table.append_column(Column("sql", Integer, nullable=False, default=func.length("four")))
    await merging.create(table)
    await merging.upsert(table, [{"id": 1, "n": 0}, {"id": 2, "n": 0}])
    await merging.upsert(table, [{"id": 1, "n": 1}, {"id": 2, "n": 0}])
    assert await merging.content(table) == [(1, 1, "x", 1, 4), (2, 0, "x", 2, 4)]


@pytest.mark.parametrize("onupdate", [lambda: 9, 9, func.length("nine char"), text("9")])
async def test_onupdate(merging: Merging, onupdate: Any) -> None:
    """A column with `onupdate` is set in rows that really change, and makes no row change by itself."""
    table = Table("touched", MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer))
    table.append_column(Column("touched", Integer, onupdate=onupdate))
    await merging.create(table)
    await merging.upsert(table, [{"id": 1, "n": 0}, {"id": 2, "n": 0}])
    changed = [{"id": 1, "n": 1}, {"id": 2, "n": 0}, {"id": 3, "n": 0}]
    assert await merging.upsert(table, changed) == MergeCounts(1, 1, 1, 0)
    assert await merging.content(table) == [(1, 1, 9), (2, 0, None), (3, 0, None)]


async def test_unchanged_rows_are_not_written(merging: Merging) -> None:
    """A row with nothing to change keeps the time that the database notes of its last change, beside new rows too."""
    table = Table("noted", MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer))
    await merging.execute(
        "CREATE TABLE noted (id int PRIMARY KEY, n int, at datetime(6) DEFAULT '2000-01-01' ON UPDATE now(6))"
    )
    await merging.upsert(table, [{"id": 1, "n": 1}, {"id": 2, "n": 1}])
    assert await merging.upsert(table, [{"id": 1, "n": 1}, {"id": 2, "n": 1}]) == MergeCounts(0, 0, 2, 0)
    assert await merging.upsert(table, [{"id": 1, "n": 1}, {"id": 2, "n": 2}, {"id": 3, "n": 1}]) == MergeCounts(
        1, 1, 1, 0
    )
    noted = text("SELECT id FROM noted WHERE at > '2020-01-01'")
    async with merging.engine.connect() as connection:
        assert (await connection.execute(noted)).scalars().all() == [2]


async def test_triggers_see_what_really_happens(merging: Merging) -> None:
    """A trigger of updates runs for rows that change, and for no other, beside new rows too."""
    table = await merging.create(heroes())
    await merging.execute(
        "CREATE TABLE seen (id int);"
        "CREATE TRIGGER watch AFTER UPDATE ON heroes FOR EACH ROW INSERT INTO seen VALUES (NEW.id)"
    )
    await merging.upsert(table, [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}])
    rows = [{"id": 1, "name": "a"}, {"id": 2, "name": "new"}, {"id": 3, "name": "c"}]
    assert await merging.upsert(table, rows) == MergeCounts(1, 1, 1, 0)
    async with merging.engine.connect() as connection:
        assert (await connection.execute(text("SELECT id FROM seen"))).scalars().all() == [2]


async def test_another_unique_index_is_violated(merging: Merging) -> None:
    """A second unique index refuses a row that the key lets through, and nothing of the other row is touched."""
    table = await merging.create(heroes())
    await merging.execute("CREATE UNIQUE INDEX names ON heroes (name)")
    await merging.upsert(table, [{"id": 1, "name": "x"}])
    for rows in ([{"id": 2, "name": "x"}], [{"id": 1, "name": "y"}, {"id": 2, "name": "x"}, {"id": 3, "name": "x"}]):
        with pytest.raises(exc.IntegrityError) as caught:
            await merging.upsert(table, rows)
        assert number_of(caught.value) == 1062
    assert await merging.content(table) == [(1, "x", None)]


async def test_the_key_decides_and_no_other_index(merging: Merging) -> None:
    """A row that is known by the key is updated, whatever row its other values belong to."""
    table = await merging.create(people())
    await merging.upsert(table, [{"id": 1, "email": "a", "age": 1}, {"id": 2, "email": "b", "age": 1}])
    rows = [{"id": 1, "email": "b", "age": 5}, {"id": 9, "email": "c", "age": 5}]
    assert await merging.upsert(table, rows, key=["email"], update=["age"]) == MergeCounts(1, 1, 0, 0)
    assert await merging.content(table) == [(1, "a", 1), (2, "b", 5), (9, "c", 5)]


@pytest.mark.parametrize("kind", ["int AS (1) STORED", "int AS (n + 1) VIRTUAL"])
async def test_generated_columns_are_refused(merging: Merging, kind: str) -> None:
    """A column that only the database writes is refused by name when it is given, and left alone when not."""
    await merging.execute(f"CREATE TABLE made (id int PRIMARY KEY, n int, own {kind})")
    table = Table("made", MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer))
    table.append_column(Column("own", Integer, default=4, onupdate=4))
    with pytest.raises(RequestError, match="Column 'own' of table 'made' is written by the database alone"):
        await merging.upsert(table, [{"id": 1, "own": 1}])
    await merging.upsert(table, [{"id": 1, "n": 1}])
    assert await merging.upsert(table, [{"id": 1, "n": 2}]) == MergeCounts(0, 1, 0, 0)


@pytest.mark.parametrize(
    "case",
    [
        (["id", "nome"], ["id"], ["name"], UnknownColumnError, "no column 'nome'. Did you mean 'name'"),
        (["id", "name"], ["name"], ["id"], KeyNotUniqueError, r"covers exactly \(name\)"),
        (["name"], ["id"], ["name"], RequestError, "`key` names id, but"),
        (["id", "name"], ["id"], ["name", "power"], RequestError, "`update` names power, but"),
        (["id", "id"], ["id"], [], RequestError, "'id' of table 'heroes' is given twice"),
    ],
)
async def test_misuse(merging: Merging, case: tuple[Any, ...]) -> None:
    """What could not work is refused before anything is sent."""
    columns, key, update, error, message = case
    table = await merging.create(heroes())
    facts = await merging.facts(table)
    with pytest.raises(error, match=message):
        MySqlMerge(table, facts, columns=columns, key=key, update=update)


async def test_more_than_a_packet(merging: Merging) -> None:
    """Rows that together are more than the server takes in one packet go in several, and are counted as one chunk."""
    table = await merging.create(
        Table("wide", MetaData(), Column("id", BigInteger, primary_key=True, autoincrement=False), Column("t", Text))
    )
    await merging.execute("SET GLOBAL max_allowed_packet = 1048576")
    try:
        await merging.engine.dispose()
        rows: list[dict[str, object]] = [{"id": number, "t": '"' * 20_000 + str(number % 7)} for number in range(150)]
        assert await merging.upsert(table, rows[:100]) == MergeCounts(100, 0, 0, 0)
        changed = [row | {"t": "x" * 20_000} if row["id"] == 5 else row for row in rows]
        assert await merging.upsert(table, changed) == MergeCounts(50, 1, 99, 0)
        assert await merging.upsert(table, rows, update=[]) == MergeCounts(0, 0, 150, 0)
        assert (await merging.update(table, rows)).updated == 1
    finally:
        await merging.execute("SET GLOBAL max_allowed_packet = 16777216")
        await merging.engine.dispose()


@pytest.mark.parametrize("length", [700, 768])
async def test_long_keys(merging: Merging, length: int) -> None:
    """Keys that differ in their last characters only are different keys."""
    table = Table("long", MetaData(), Column("id", String(768), primary_key=True), Column("n", Integer))
    await merging.create(table)
    rows = [{"id": "x" * (length - 1) + end, "n": 1} for end in "abcA"]
    assert await merging.upsert(table, rows) == MergeCounts(3, 0, 0, 1)
    assert await merging.upsert(table, rows[:3]) == MergeCounts(0, 0, 3, 0)


async def test_many_rows_of_both_kinds(merging: Merging) -> None:
    """Known and new rows are told apart however many statements a chunk takes, and one that is refused undoes all."""
    table = await merging.create(heroes())
    await merging.upsert(table, [{"id": key, "name": f"hero {key}"} for key in range(0, 2600, 2)])
    rows = [{"id": key, "name": f"hero {key - key % 3}"} for key in range(2600)]
    changed = sum(1 for key in range(0, 2600, 2) if key % 3)
    assert await merging.upsert(table, rows) == MergeCounts(1300, changed, 1300 - changed, 0)
    await merging.execute("DELETE FROM heroes WHERE id MOD 5 = 0; ALTER TABLE heroes ADD CHECK (id <> 2505)")
    before = await merging.content(table)
    with pytest.raises(exc.DBAPIError):
        await merging.upsert(table, rows)
    assert await merging.content(table) == before
