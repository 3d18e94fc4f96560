"""Upserts and updates beside other transactions, and against a model in memory, on a real MariaDB."""

import asyncio
import random
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, String, Table, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.support.mysql_tables import Merging
from worker.core.merge_counts import MergeCounts
from worker.core.update_counts import UpdateCounts
from worker.database.mysql.merge import MySqlMerge
from worker.database.mysql.row_update import MySqlRowUpdate

Row = tuple[int, str | None, int | None]

TEAMS = Table(
    "teams",
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", String(50, collation="utf8mb4_general_ci")),
    Column("size", Integer, nullable=False, server_default="7"),
)


@pytest.fixture
async def teams(merging: Merging) -> MySqlMerge:
    """An upsert of teams, whose table is there and empty."""
    await merging.create(TEAMS)
    facts = await merging.facts(TEAMS)
    return MySqlMerge(TEAMS, facts, columns=["id", "name", "size"], key=["id"], update=["name", "size"])


async def apply(engine: AsyncEngine, merge: MySqlMerge, rows: Sequence[Row]) -> MergeCounts:
    """Upsert rows in a transaction of their own."""
    async with engine.begin() as connection:
        return await merge.apply(connection, list(zip(*rows, strict=True)))


@pytest.mark.parametrize("known", [0, 1, 2])
async def test_eight_sessions_never_deadlock(mysql: AsyncEngine, teams: MySqlMerge, known: int) -> None:
    """Eight sessions that upsert overlapping keys in any order, few of them known, wait for each other and finish."""
    chance = random.Random(known)
    if known:
        await apply(mysql, teams, [(key, "old", 1) for key in range(0, 900, 3 - known)])

    async def upsert_often(session: int) -> list[MergeCounts]:
        found = []
        for turn in range(8):
            keys = chance.sample(range(900), 300)
            found.append(await apply(mysql, teams, [(key, f"{session}/{turn}", session) for key in keys]))
        return found

    counts = [count for side in await asyncio.gather(*map(upsert_often, range(8))) for count in side]
    async with mysql.connect() as connection:
        rows = await connection.scalar(select(func.count()).select_from(TEAMS))
    before = len(range(0, 900, 3 - known)) if known else 0
    assert sum(count.inserted for count in counts) == (rows or 0) - before
    assert sum(count.rows for count in counts) == 8 * 8 * 300


async def test_keys_that_come_and_go(mysql: AsyncEngine, teams: MySqlMerge) -> None:
    """Counts are right, and nobody dead-locks, where other sessions delete what is merged, in key order, too."""
    chance = random.Random(5)
    gone = []

    async def upsert_often(session: int) -> list[MergeCounts]:
        found = []
        for turn in range(10):
            keys = chance.sample(range(200), 100)
            found.append(await apply(mysql, teams, [(key, f"{session}/{turn}", 1) for key in keys]))
        return found

    async def delete_often() -> None:
        for _ in range(10):
            first = chance.randrange(150)
            async with mysql.begin() as connection:
                deleted = await connection.execute(TEAMS.delete().where(TEAMS.c.id.between(first, first + 50)))
                gone.append(deleted.rowcount)

    merging = asyncio.gather(*map(upsert_often, range(6)))
    await asyncio.gather(delete_often(), delete_often())
    counts = await merging
    async with mysql.connect() as connection:
        rows = await connection.scalar(select(func.count()).select_from(TEAMS))
    assert sum(count.inserted for side in counts for count in side) == (rows or 0) + sum(gone)


@pytest.mark.parametrize("trigger", [False, True])
async def test_by_another_unique_key(mysql: AsyncEngine, merging: Merging, trigger: bool) -> None:  # noqa: FBT001 - pytest passes it by name
    """Sessions that upsert by a key which is not the primary one, new rows among them, end well in any order."""
    table = Table("people", MetaData(), Column("id", Integer, primary_key=True))
    table.append_column(Column("email", String(20), unique=True, nullable=False))
    table.append_column(Column("age", Integer))
    await merging.create(table)
    if trigger:
        await merging.execute("CREATE TRIGGER watch AFTER UPDATE ON people FOR EACH ROW SET @seen = NEW.id")
    merge = MySqlMerge(table, await merging.facts(table), columns=["email", "age"], key=["email"], update=["age"])
    emails = [f"{(key * 7919) % 1000:04}@x" for key in range(200)]

    async def upsert_often(order: Sequence[str], age: int) -> list[MergeCounts]:
        found = []
        for turn in range(6):
            async with mysql.begin() as connection:
                found.append(await merge.apply(connection, [order, [age + turn] * len(order)]))
        return found

    orders = [emails, emails[::-1], emails[50:], emails[:150], emails[::2], emails[1::3]]
    sides = await asyncio.gather(*(upsert_often(order, 100 * at) for at, order in enumerate(orders)))
    assert sum(count.inserted for side in sides for count in side) == len(emails)


async def test_updates_never_deadlock(mysql: AsyncEngine, merging: Merging, teams: MySqlMerge) -> None:
    """Eight sessions that update the same rows in other orders wait for each other and all finish."""
    await apply(mysql, teams, [(key, "old", 1) for key in range(300)])
    update = MySqlRowUpdate(TEAMS, await merging.facts(TEAMS), columns=["id", "name"], key=["id"])
    chance = random.Random(3)

    async def update_often(session: int) -> list[UpdateCounts]:
        found = []
        for turn in range(8):
            keys = chance.sample(range(400), 200)
            async with mysql.begin() as connection:
                found.append(await update.apply(connection, [keys, [f"{session}/{turn}"] * len(keys)]))
        return found

    for counts in await asyncio.gather(*map(update_often, range(8))):
        assert all(count.updated + count.missing == 200 for count in counts)


async def test_row_written_by_the_same_transaction(mysql: AsyncEngine, teams: MySqlMerge) -> None:
    """Rows that the same transaction inserted and updated are known as old."""
    async with mysql.begin() as connection:
        assert await teams.apply(connection, [[1], ["a"], [1]]) == MergeCounts(1, 0, 0, 0)
        assert await teams.apply(connection, [[1, 2], ["b", "b"], [1, 1]]) == MergeCounts(1, 1, 0, 0)
        assert await teams.apply(connection, [[1, 2], ["b", "c"], [1, 1]]) == MergeCounts(0, 1, 1, 0)


@pytest.mark.parametrize("update", [["name"], []])
async def test_row_inserted_meanwhile(mysql: AsyncEngine, merging: Merging, update: list[str]) -> None:
    """A row that another transaction inserts while the upsert waits for it is no new one, and is updated or left."""
    await merging.create(TEAMS)
    merge = MySqlMerge(TEAMS, await merging.facts(TEAMS), columns=["id", "name"], key=["id"], update=update)

    async def upsert() -> MergeCounts:
        async with mysql.begin() as connection:
            return await merge.apply(connection, [[1, 2], ["ours", "ours"]])

    async with mysql.connect() as other:
        await other.execute(TEAMS.insert(), {"id": 1, "name": "theirs"})
        waiting = asyncio.create_task(upsert())
        await until_somebody_waits(mysql)
        await other.commit()
    assert await waiting == MergeCounts(inserted=1, updated=len(update), unchanged=1 - len(update), duplicates=0)


async def test_row_deleted_meanwhile(mysql: AsyncEngine, teams: MySqlMerge) -> None:
    """A row that another transaction deletes while the upsert waits for it is inserted anew."""
    await apply(mysql, teams, [(1, "old", 1), (2, "old", 1)])
    async with mysql.connect() as other:
        await other.execute(TEAMS.delete().where(TEAMS.c.id == 2))
        waiting = asyncio.create_task(apply(mysql, teams, [(1, "new", 1), (2, "new", 1)]))
        await until_somebody_waits(mysql)
        await other.commit()
    assert await waiting == MergeCounts(inserted=1, updated=1, unchanged=0, duplicates=0)


async def until_somebody_waits(engine: AsyncEngine) -> None:
    """Return as soon as a transaction waits for a lock."""
    waits = text("SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'")
    async with engine.connect() as connection, asyncio.timeout(20):
        while not (await connection.execute(waits)).scalar_one():
            # InnoDB makes this table anew only where nobody has read it for a tenth of a second
            await asyncio.sleep(0.15)


ROWS = st.lists(
    st.tuples(
        st.integers(0, 5), st.none() | st.sampled_from(["", "a", "A", "é\n", "a "]), st.none() | st.integers(6, 8)
    ),
    min_size=1,
    max_size=12,
)


@given(chunks=st.lists(ROWS, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_model(mysql: AsyncEngine, teams: MySqlMerge, chunks: list[list[Row]]) -> None:
    """Whatever chunks come, table and counts are those of a dictionary that takes each row in turn."""
    async with mysql.begin() as connection:
        await connection.execute(TEAMS.delete())
    model: dict[int, tuple[str | None, int]] = {}
    for rows in chunks:
        latest = {key: (name, 7 if size is None else size) for key, name, size in rows}
        new = latest.keys() - model.keys()
        updated = [key for key in latest.keys() & model.keys() if latest[key] != model[key]]
        model |= latest
        counts = await apply(mysql, teams, rows)
        assert counts.rows == len(rows)
        assert counts == MergeCounts(
            inserted=len(new),
            updated=len(updated),
            unchanged=len(latest) - len(new) - len(updated),
            duplicates=len(rows) - len(latest),
        )
    async with mysql.connect() as connection:
        stored = {row.id: (row.name, row.size) for row in await connection.execute(select(TEAMS))}
    assert stored == model
