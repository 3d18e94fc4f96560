"""What updates through `PostgresRowUpdate` and `PostgresWhereUpdate` store and count, on real PostgreSQL servers."""

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import JSON, Column, ForeignKey, Integer, MetaData, Numeric, String, Table, exc, select, true
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.integration.test_postgres_merge_values import CASES, create, make_types, values_of, with_column
from worker.core.errors import KeyNotUniqueError, RequestError, UnknownColumnError
from worker.core.update_counts import UpdateCounts
from worker.database.postgres.catalogue import read_table_facts
from worker.database.postgres.row_update import PostgresRowUpdate, PostgresWhereUpdate

Execute = Callable[[str], Awaitable[None]]
Rows = Sequence[dict[str, object]]


async def by_row(engine: AsyncEngine, table: Table, rows: Rows, key: Sequence[str] = ("id",)) -> UpdateCounts:
    """Update rows, given as dictionaries with the same keys, and commit."""
    columns = list(rows[0])
    async with engine.begin() as connection:
        facts = await read_table_facts(connection, table)
        update = PostgresRowUpdate(table, facts, columns=columns, key=key)
        return await update.apply(connection, [[row[name] for row in rows] for name in columns])


async def all_rows(engine: AsyncEngine, table: Table, **values: object) -> UpdateCounts:
    """Give every row the same values, and commit."""
    async with engine.begin() as connection:
        facts = await read_table_facts(connection, table)
        return await PostgresWhereUpdate(table, facts, values).apply(connection, true())


async def one_row(engine: AsyncEngine, table: Table, value: object) -> UpdateCounts:
    """Give the row of id 1 a value of column `a`."""
    return await by_row(engine, table, [{"id": 1, "a": value}])


async def every_row(engine: AsyncEngine, table: Table, value: object) -> UpdateCounts:
    """Give every row a value of column `a`."""
    return await all_rows(engine, table, a=value)


WAYS = [one_row, every_row]
Way = Callable[[AsyncEngine, Table, object], Awaitable[UpdateCounts]]


@pytest.mark.parametrize("update", WAYS)
@pytest.mark.parametrize(("kind", "given", "stored"), CASES, ids=lambda value: repr(value)[:40])
async def test_types(
    postgres: AsyncEngine, execute: Execute, kind: Any, given: object, stored: object, update: Way
) -> None:
    """A value of each type arrives as an upsert stores it, and the same value again changes nothing."""
    table = await create(postgres, with_column(Column("a", kind)))
    await execute("INSERT INTO one VALUES (1, NULL)")

    assert await update(postgres, table, given) == UpdateCounts(updated=1, unchanged=0)
    assert await update(postgres, table, given) == UpdateCounts(updated=0, unchanged=1)
    found = await values_of(postgres, table)
    assert stored is None or found == [stored]


@pytest.mark.parametrize("update", WAYS)
@pytest.mark.parametrize(
    ("declaration", "kind", "first", "second"),
    [
        ("json", JSON, {"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ("citext", String, "a", "A"),
        ("text COLLATE folded", String, "a", "A"),
    ],
)
async def test_change_that_equality_overlooks(
    postgres: AsyncEngine, execute: Execute, declaration: str, kind: Any, first: object, second: object, update: Way
) -> None:
    """A change that the type's equality does not see, or that has none, is stored and counted."""
    await make_types(postgres, execute, declaration)
    await execute(f"CREATE TABLE one (id int PRIMARY KEY, a {declaration}); INSERT INTO one VALUES (1, NULL)")
    table = with_column(Column("a", kind()))

    assert [await update(postgres, table, value) for value in (first, first, second, second)] == [
        UpdateCounts(1, 0),
        UpdateCounts(0, 1),
        UpdateCounts(1, 0),
        UpdateCounts(0, 1),
    ]


@pytest.mark.parametrize("update", WAYS)
async def test_too_long(postgres: AsyncEngine, execute: Execute, update: Way) -> None:
    """A text that its column cannot hold is refused by the database, never cut short to one that is there."""
    table = await create(postgres, with_column(Column("a", String(3))))
    await execute("INSERT INTO one VALUES (1, 'too')")
    with pytest.raises(exc.DBAPIError) as caught:
        await update(postgres, table, "toolong")
    assert getattr(caught.value.orig, "sqlstate", None) == "22001"


async def test_rounded_keys_are_one(postgres: AsyncEngine, execute: Execute) -> None:
    """Keys are compared as the database stores them: of two that it rounds to one, the last row counts."""
    await execute("CREATE TABLE one (id int, a numeric(6,2) PRIMARY KEY); INSERT INTO one VALUES (0, 1)")
    table = Table("one", MetaData(), Column("id", Integer), Column("a", Numeric(), primary_key=True))
    rows: Rows = [
        {"id": number, "a": Decimal(written)} for number, written in enumerate(("1", "1.001", "1.00", "2"), 1)
    ]
    assert await by_row(postgres, table, rows, key=["a"]) == UpdateCounts(1, 0, missing=1, duplicates=2)
    async with postgres.connect() as connection:
        assert (await connection.execute(select(table.c.id))).scalars().all() == [3]


async def test_partitions_schemas_and_odd_names(postgres: AsyncEngine, execute: Execute) -> None:
    """Rows are found across partitions, in a schema of its own, by a key of two columns; a row may change partition."""
    await execute(
        'CREATE SCHEMA "Odd one"; '
        'CREATE TABLE "Odd one"."old" ("a b" int, "select" text, c int, PRIMARY KEY ("a b", c)) PARTITION BY RANGE (c);'
        'CREATE TABLE "Odd one".low PARTITION OF "Odd one"."old" FOR VALUES FROM (0) TO (10);'
        'CREATE TABLE "Odd one".high PARTITION OF "Odd one"."old" FOR VALUES FROM (10) TO (20);'
        """INSERT INTO "Odd one"."old" SELECT n, 'x', n FROM generate_series(1, 19) AS n"""
    )
    try:
        table = Table("old", MetaData(), schema="Odd one")
        for name, kind, key in (("a b", Integer(), "one"), ("select", String(), "two"), ("c", Integer(), "three")):
            table.append_column(Column(name, kind, key=key, primary_key=key != "two"))
        rows: Rows = [{"c": c, "a b": a, "select": text} for c, a, text in ((5, 5, "y"), (15, 15, "x"), (15, 5, "z"))]
        assert await by_row(postgres, table, rows, key=["c", "a b"]) == UpdateCounts(1, 1, missing=1)
        assert await all_rows(postgres, table, select="y") == UpdateCounts(18, 1)
    finally:
        await execute('DROP SCHEMA "Odd one" CASCADE')


async def test_another_unique_key_may_be_changed(postgres: AsyncEngine, execute: Execute) -> None:
    """By one unique key, the columns of another change: the primary key, to which rows refer, among them."""
    metadata = MetaData()
    table = Table("one", metadata, Column("id", Integer, primary_key=True), Column("a", String, unique=True))
    Table("other", metadata, Column("id", ForeignKey("one.id", onupdate="CASCADE")))
    await create(postgres, table)
    await execute("INSERT INTO one VALUES (1, 'a'), (2, 'b'); INSERT INTO other VALUES (1)")
    assert await by_row(postgres, table, [{"id": 9, "a": "a"}, {"id": 2, "a": "b"}], key=["a"]) == UpdateCounts(1, 1)


@pytest.mark.parametrize(
    ("columns", "key", "error", "said"),
    [
        (["id"], ["id"], RequestError, "nothing but their key"),
        (["a"], ["id"], RequestError, "`key` names id"),
        (["id", "a", "a"], ["id"], RequestError, "given twice"),
        (["id", "a"], ["a"], KeyNotUniqueError, "covers exactly"),
        (["id", "b"], ["id"], UnknownColumnError, "no column 'b'"),
    ],
)
async def test_misuse(
    postgres: AsyncEngine, columns: list[str], key: list[str], error: type[Exception], said: str
) -> None:
    """What could not work is refused before anything is sent."""
    table = await create(postgres, with_column(Column("a", String)))
    async with postgres.connect() as connection:
        facts = await read_table_facts(connection, table)
    with pytest.raises(error, match=said):
        PostgresRowUpdate(table, facts, columns=columns, key=key)


async def test_the_primary_key_is_no_value_for_many(postgres: AsyncEngine) -> None:
    """A column of the primary key cannot be given to many rows."""
    table = await create(postgres, with_column(Column("a", String)))
    with pytest.raises(RequestError, match="part of the primary key"):
        await all_rows(postgres, table, id=1)
