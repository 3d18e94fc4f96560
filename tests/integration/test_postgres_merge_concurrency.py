"""Upserts beside other transactions and in partitioned tables, and against a model in memory, on real servers."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.core.merge_counts import MergeCounts
from worker.database.postgres.catalogue import read_table_facts
from worker.database.postgres.merge import PostgresMerge

Execute = Callable[[str], Awaitable[None]]
Upsert = Callable[..., Awaitable[MergeCounts]]
Row = tuple[int, str | None, int | None]

METADATA = MetaData()
TEAMS = Table(
    "teams",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", String),
    Column("size", Integer, nullable=False, server_default="7"),
)
HEROES = Table("heroes", METADATA, Column("id", Integer, primary_key=True), Column("team", ForeignKey(TEAMS.c.id)))


@pytest.fixture
async def teams(postgres: AsyncEngine) -> PostgresMerge:
    """An upsert of teams, whose tables are there and empty."""
    async with postgres.begin() as connection:
        await connection.run_sync(METADATA.create_all)
        facts = await read_table_facts(connection, TEAMS)
    return PostgresMerge(TEAMS, facts, columns=["id", "name", "size"], key=["id"], update=["name", "size"])


async def apply(engine: AsyncEngine, merge: PostgresMerge, rows: Sequence[Row]) -> MergeCounts:
    """Upsert rows in a transaction of their own."""
    async with engine.begin() as connection:
        return await merge.apply(connection, list(zip(*rows, strict=True)))


async def test_opposite_orders_never_deadlock(postgres: AsyncEngine, teams: PostgresMerge) -> None:
    """Two connections that upsert the same keys in opposite orders wait for each other and both finish."""
    keys = range(300)

    async def upsert_often(order: Sequence[int], name: str) -> list[MergeCounts]:
        return [await apply(postgres, teams, [(key, f"{name}{turn}", 1) for key in order]) for turn in range(50)]

    both = await asyncio.gather(upsert_often(keys, "up"), upsert_often(keys[::-1], "down"))
    counts = [count for side in both for count in side]
    assert sum(count.inserted for count in counts) == len(keys)
    assert sum(count.updated for count in counts) == len(keys) * 99


async def test_row_locked_by_a_reference(postgres: AsyncEngine, teams: PostgresMerge) -> None:
    """A row that a foreign key check of another transaction holds is updated at once, and counted as updated."""
    await apply(postgres, teams, [(1, "old", 1)])
    async with postgres.connect() as other:
        await other.execute(HEROES.insert(), {"id": 1, "team": 1})
        assert await apply(postgres, teams, [(1, "new", 1), (2, "new", 1)]) == MergeCounts(1, 1, 0, 0)
        await other.commit()
    assert await apply(postgres, teams, [(1, "newer", 1), (2, "newer", 1)]) == MergeCounts(0, 2, 0, 0)


async def test_row_written_by_the_same_transaction(postgres: AsyncEngine, teams: PostgresMerge) -> None:
    """Rows that the same transaction inserted and updated are known as old."""
    async with postgres.begin() as connection:
        assert await teams.apply(connection, [[1], ["a"], [1]]) == MergeCounts(1, 0, 0, 0)
        assert await teams.apply(connection, [[1, 2], ["b", "b"], [1, 1]]) == MergeCounts(1, 1, 0, 0)
        assert await teams.apply(connection, [[1, 2], ["b", "c"], [1, 1]]) == MergeCounts(0, 1, 1, 0)


async def test_row_inserted_meanwhile(postgres: AsyncEngine, teams: PostgresMerge) -> None:
    """A row that another transaction inserts while the upsert waits for it is updated, and counted as that."""
    async with postgres.connect() as other:
        await other.execute(TEAMS.insert(), {"id": 1, "name": "theirs"})
        waiting = asyncio.create_task(apply(postgres, teams, [(1, "ours", 1)]))
        await until_somebody_waits(postgres)
        await other.commit()
    assert await waiting == MergeCounts(inserted=0, updated=1, unchanged=0, duplicates=0)


async def until_somebody_waits(engine: AsyncEngine) -> None:
    """Return as soon as a backend waits for a lock."""
    async with engine.connect() as connection:
        while True:
            found = await connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if found.scalar_one():
                return
            await connection.rollback()


async def test_partitioned_table(execute: Execute, upsert: Upsert) -> None:
    """Counts are right across partitions, one of which has its columns in another order."""
    await execute(
        "CREATE TABLE parted (a int, b text, c int, PRIMARY KEY (a, c)) PARTITION BY RANGE (a);"
        "CREATE TABLE low PARTITION OF parted FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE high (c int NOT NULL, gone int, b text, a int NOT NULL); ALTER TABLE high DROP COLUMN gone;"
        "ALTER TABLE parted ATTACH PARTITION high FOR VALUES FROM (10) TO (20)"
    )
    table = Table("parted", MetaData(), Column("a", Integer, primary_key=True), Column("c", Integer, primary_key=True))
    table.append_column(Column("b", String))
    rows = [{"c": 1, "a": key, "b": "x"} for key in (1, 2, 11, 12)]
    assert await upsert(table, rows, key=["c", "a"]) == MergeCounts(4, 0, 0, 0)
    rows = [{"c": 1, "a": key, "b": "xyz"[key % 3]} for key in (1, 2, 3, 3, 11, 12, 13)]
    assert await upsert(table, rows, key=["c", "a"]) == MergeCounts(inserted=2, updated=3, unchanged=1, duplicates=1)
    assert await upsert(table, rows, key=["a", "c"], update=[]) == MergeCounts(0, 0, 6, 1)


ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.none() | st.sampled_from(["", "a", "A", "é\n"]), st.none() | st.integers(6, 8)),
    min_size=1,
    max_size=12,
)


@given(chunks=st.lists(ROWS, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_model(postgres: AsyncEngine, teams: PostgresMerge, chunks: list[list[Row]]) -> None:
    """Whatever chunks come, table and counts are those of a dictionary that takes each row in turn."""
    async with postgres.begin() as connection:
        await connection.execute(TEAMS.delete())
    model: dict[int, tuple[str | None, int]] = {}
    for rows in chunks:
        latest = {key: (name, 7 if size is None else size) for key, name, size in rows}
        new = latest.keys() - model.keys()
        updated = [key for key in latest.keys() & model.keys() if latest[key] != model[key]]
        model |= latest
        counts = await apply(postgres, teams, rows)
        assert counts.rows == len(rows)
        assert counts == MergeCounts(
            inserted=len(new),
            updated=len(updated),
            unchanged=len(latest) - len(new) - len(updated),
            duplicates=len(rows) - len(latest),
        )
    async with postgres.connect() as connection:
        stored = {row.id: (row.name, row.size) for row in await connection.execute(select(TEAMS))}
        assert stored == model
        assert await connection.scalar(select(func.count()).select_from(TEAMS)) == len(model)
