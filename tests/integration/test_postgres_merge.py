"""What an upsert through `PostgresMerge` does and counts, on real PostgreSQL servers."""

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Identity,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    UniqueConstraint,
    event,
    exc,
    func,
    select,
    text,
)
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.core.errors import KeyNotUniqueError, RequestError, UnknownColumnError
from worker.core.merge_counts import MergeCounts
from worker.database.postgres.catalogue import read_table_facts
from worker.database.postgres.merge import PostgresMerge

Execute = Callable[[str], Awaitable[None]]
Upsert = Callable[..., Awaitable[MergeCounts]]


def heroes() -> Table:
    """A plain table."""
    return Table(
        "heroes",
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("name", String(20)),
        Column("power", Numeric(6, 2)),
    )


async def create(engine: AsyncEngine, table: Table) -> Table:
    """Create a table as its model has it."""
    async with engine.begin() as connection:
        await connection.run_sync(table.create)
    return table


async def content(engine: AsyncEngine, table: Table) -> list[tuple[object, ...]]:
    """All rows, in the order of the first column."""
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(select(table).order_by(table.c[0]))]


async def versions(engine: AsyncEngine, table: str) -> list[tuple[object, ...]]:
    """Where each row version is and who wrote it."""
    async with engine.connect() as connection:
        found = await connection.exec_driver_sql(
            f"SELECT ctid, CAST(CAST(xmin AS text) AS int) FROM {table} ORDER BY id"
        )
        return [tuple(row) for row in found]


async def test_counts(postgres: AsyncEngine, upsert: Upsert) -> None:
    """Each row is inserted, updated, unchanged or superseded, and of several with one key the last counts."""
    table = await create(postgres, heroes())
    first = [{"id": number, "name": f"hero {number}"} for number in range(3)]
    assert await upsert(table, first) == MergeCounts(inserted=3, updated=0, unchanged=0, duplicates=0)
    second = [
        {"id": 7, "name": "an early one"},
        {"id": 1, "name": "renamed"},
        {"id": 2, "name": "a late change"},
        {"id": 2, "name": "hero 2"},
        {"id": 7, "name": "the last one"},
        {"id": 7, "name": None},
    ]
    assert await upsert(table, second) == MergeCounts(inserted=1, updated=1, unchanged=1, duplicates=3)
    assert await content(postgres, table) == [
        (0, "hero 0", None),
        (1, "renamed", None),
        (2, "hero 2", None),
        (7, None, None),
    ]


async def test_unchanged_rows_are_not_written(postgres: AsyncEngine, upsert: Upsert) -> None:
    """A row with nothing to change keeps its version, its place and its writer."""
    table = await create(postgres, heroes())
    rows = [{"id": number, "name": "x", "power": None} for number in range(5)]
    await upsert(table, rows)
    before = await versions(postgres, "heroes")
    assert await upsert(table, rows) == MergeCounts(inserted=0, updated=0, unchanged=5, duplicates=0)
    assert await versions(postgres, "heroes") == before


async def test_some_columns(postgres: AsyncEngine, upsert: Upsert) -> None:
    """A new row takes all given columns, an existing one those of `update` only."""
    table = await create(postgres, heroes())
    await upsert(table, [{"id": 1, "name": "old", "power": 1}])
    rows = [{"id": number, "name": "new", "power": 2} for number in (1, 2)]
    assert await upsert(table, rows, update=["power"]) == MergeCounts(1, 1, 0, 0)
    assert await content(postgres, table) == [(1, "old", 2), (2, "new", 2)]


async def test_no_update(postgres: AsyncEngine, upsert: Upsert) -> None:
    """With nothing to update, existing rows stay as they are and new ones are inserted."""
    table = await create(postgres, heroes())
    await upsert(table, [{"id": 1, "name": "old"}])
    rows = [{"id": number, "name": "new"} for number in (1, 2, 2)]
    assert await upsert(table, rows, update=[]) == MergeCounts(inserted=1, updated=0, unchanged=1, duplicates=1)
    assert await content(postgres, table) == [(1, "old", None), (2, "new", None)]


async def test_another_unique_key(postgres: AsyncEngine, upsert: Upsert) -> None:
    """Rows are told apart by any unique key, and an absent primary key comes from its sequence."""
    table = Table("people", MetaData(), Column("id", Integer, Identity(), primary_key=True))
    table.append_column(Column("email", String, unique=True))
    table.append_column(Column("age", Integer))
    await create(postgres, table)
    await upsert(table, [{"email": "a", "age": 1}], key=["email"])
    rows = [{"email": "b", "age": 2}, {"email": "a", "age": 3}]
    assert await upsert(table, rows, key=["email"]) == MergeCounts(1, 1, 0, 0)
    assert [row[1:] for row in await content(postgres, table)] == [("a", 3), ("b", 2)]


@pytest.mark.parametrize("key", [["a", "b"], ["b", "a"]])
async def test_composite_key(postgres: AsyncEngine, upsert: Upsert, key: list[str]) -> None:
    """A composite key is found whatever order its columns are named in."""
    table = Table("pairs", MetaData(), Column("id", Integer, Identity(), primary_key=True))
    for column in (Column("a", Integer), Column("b", String), Column("n", Integer), UniqueConstraint("b", "a")):
        table.append_column(column) if isinstance(column, Column) else table.append_constraint(column)
    await create(postgres, table)
    rows = [{"n": 1, "a": 1, "b": "x"}, {"n": 2, "a": 1, "b": "y"}, {"n": 3, "a": 1, "b": "x"}]
    assert await upsert(table, rows, key=key) == MergeCounts(inserted=2, updated=0, unchanged=0, duplicates=1)
    assert sorted(row[1:] for row in await content(postgres, table)) == [(1, "x", 3), (1, "y", 2)]


@pytest.mark.parametrize(
    "case",
    [
        ("Order", None, ("select", 'a"b')),
        ("a%b", None, ("per%cent", "MixedCase")),
        ("old", None, ("old", "new")),
        ("new", None, ("excluded", "position")),
        ("merged", None, ("c0", "k0")),
        ("table", "My.Schema", ("xid", "select")),
        ("ключ: 1", None, (":colon", "v0")),
    ],
)
async def test_odd_names(
    postgres: AsyncEngine, execute: Execute, upsert: Upsert, case: tuple[str, str | None, tuple[str, str]]
) -> None:
    """No name of a table, schema or column can be mistaken for something else."""
    name, schema, (first, second) = case
    if schema:
        await execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE; CREATE SCHEMA "{schema}"')
    table = Table(name, MetaData(), Column(first, Integer, primary_key=True), Column(second, String), schema=schema)
    await create(postgres, table)
    await upsert(table, [{first: 1, second: "x"}, {first: 2, second: "x"}], key=[first])
    rows = [{first: 1, second: "x"}, {first: 2, second: "y"}, {first: 3, second: "z"}]
    assert await upsert(table, rows, key=[first]) == MergeCounts(inserted=1, updated=1, unchanged=1, duplicates=0)
    assert await content(postgres, table) == [(1, "x"), (2, "y"), (3, "z")]


async def test_names_of_the_model(postgres: AsyncEngine, upsert: Upsert) -> None:
    """Columns go by the database's names, whatever the model calls them."""
    table = Table("named", MetaData(), Column("id", Integer, primary_key=True, key="ident"))
    table.append_column(Column("n", Integer, key="id"))
    await create(postgres, table)
    await upsert(table, [{"id": 1, "n": 5}])
    assert await upsert(table, [{"id": 1, "n": 6}]) == MergeCounts(0, 1, 0, 0)
    assert await content(postgres, table) == [(1, 6)]


async def test_none_in_not_null_takes_the_default(postgres: AsyncEngine, execute: Execute, upsert: Upsert) -> None:
    """None where NULL is not admitted is the default: the database's, else the model's."""
    table = Table("defaults", MetaData(), Column("id", Integer, primary_key=True))
    for column in (Column("here", Integer, nullable=False), Column("model", Integer, nullable=False, default=5)):
        table.append_column(column)
    table.append_column(Column("never", String, nullable=False))
    await execute(
        "CREATE DOMAIN code AS varchar(5) NOT NULL DEFAULT 'zz';"
        "CREATE TABLE defaults (id int PRIMARY KEY, here int NOT NULL DEFAULT 3, model int NOT NULL, never code)"
    )
    rows = [{"id": 1, "here": None, "model": None, "never": None}, {"id": 2, "here": 1, "model": 2, "never": "a"}]
    await upsert(table, rows)
    assert await content(postgres, table) == [(1, 3, 5, "zz"), (2, 1, 2, "a")]


async def test_model_defaults(postgres: AsyncEngine, upsert: Upsert) -> None:
    """Columns not given take the model's default in new rows only: a value, one made for each row, or SQL."""
    numbers = count(1)
    table = Table("defaults", MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer))
    table.append_column(Column("plain", String, nullable=False, default="x"))
    table.append_column(Column("made", Integer, nullable=False, default=lambda: next(numbers)))
    table.append_column(Column("sql", Integer, nullable=False, default=func.length("four")))
    await create(postgres, table)
    await upsert(table, [{"id": 1, "n": 0}, {"id": 2, "n": 0}])
    await upsert(table, [{"id": 1, "n": 1}, {"id": 2, "n": 0}])
    assert await content(postgres, table) == [(1, 1, "x", 1, 4), (2, 0, "x", 2, 4)]


@pytest.mark.parametrize("onupdate", [lambda: 9, 9, func.length("nine char"), text("9")])
async def test_onupdate(postgres: AsyncEngine, upsert: Upsert, onupdate: Any) -> None:
    """A column with `onupdate` is set in rows that really change, and makes no row change by itself."""
    table = Table("touched", MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer))
    table.append_column(Column("touched", Integer, onupdate=onupdate))
    await create(postgres, table)
    await upsert(table, [{"id": 1, "n": 0}, {"id": 2, "n": 0}])
    assert await upsert(table, [{"id": 1, "n": 1}, {"id": 2, "n": 0}, {"id": 3, "n": 0}]) == MergeCounts(1, 1, 1, 0)
    assert await content(postgres, table) == [(1, 1, 9), (2, 0, None), (3, 0, None)]


async def test_another_unique_index_is_violated(postgres: AsyncEngine, execute: Execute, upsert: Upsert) -> None:
    """A second unique index refuses a row that the key lets through."""
    table = await create(postgres, heroes())
    await execute("CREATE UNIQUE INDEX ON heroes (name)")
    await upsert(table, [{"id": 1, "name": "x"}])
    with pytest.raises(exc.IntegrityError) as caught:
        await upsert(table, [{"id": 2, "name": "x"}])
    assert getattr(caught.value.orig, "sqlstate", None) == "23505"


@pytest.mark.parametrize("kind", ["integer GENERATED ALWAYS AS IDENTITY", "integer GENERATED ALWAYS AS (1) STORED"])
async def test_generated_columns_are_refused(execute: Execute, upsert: Upsert, kind: str) -> None:
    """A column that only the database writes is refused by name when it is given, and left alone when not."""
    await execute(f"CREATE TABLE made (id int PRIMARY KEY, own {kind}, n int)")
    table = Table("made", MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer))
    table.append_column(Column("own", Integer, default=4, onupdate=4))
    with pytest.raises(RequestError, match="Column 'own' of table 'made' is written by the database alone"):
        await upsert(table, [{"id": 1, "own": 1}])
    await upsert(table, [{"id": 1, "n": 1}])
    assert await upsert(table, [{"id": 1, "n": 2}]) == MergeCounts(0, 1, 0, 0)


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
async def test_misuse(postgres: AsyncEngine, case: tuple[Any, ...]) -> None:
    """What could not work is refused before anything is sent."""
    columns, key, update, error, message = case
    table = await create(postgres, heroes())
    async with postgres.connect() as connection:
        facts = await read_table_facts(connection, table)
    with pytest.raises(error, match=message):
        PostgresMerge(table, facts, columns=columns, key=key, update=update)


async def test_one_statement(postgres: AsyncEngine) -> None:
    """A chunk is one statement, whose text is the same for every chunk of whatever size."""
    table = await create(postgres, heroes())
    sent: list[str] = []

    def note(_: Connection, __: object, statement: str, *___: object) -> None:
        sent.append(statement)

    async with postgres.begin() as connection:
        facts = await read_table_facts(connection, table)
        merge = PostgresMerge(table, facts, columns=["id", "name"], key=["id"], update=["name"])
        event.listen(postgres.sync_engine, "before_cursor_execute", note)
        await merge.apply(connection, [[1], ["x"]])
        await merge.apply(connection, [list(range(1000)), ["y"] * 1000])
    assert len(sent) == 2
    assert len(set(sent)) == 1
