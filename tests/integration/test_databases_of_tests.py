"""The databases that tests are given: migrated, apart from one another, copied whole, and spelt as the tests spell."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import insert, select

from tests.support.databases import DatabaseServer, copy_of
from tests.support.shop_models import Item, Tally
from tests.support.spelling import Spelling
from worker.core.settings import Settings
from worker.database.engine import Database, open_database
from worker.database.migrate import check_version

TALLY_IDS = select(Tally.id).order_by(Tally.id)  # type: ignore[arg-type]  # SQLModel types columns as their values
ITEMS = select(Item.sku, Item.name, Item.quantity, Item.counted_at).order_by(Item.sku)


def opened(url: str) -> Database:
    """An engine on a database, to be disposed of."""
    return open_database(Settings(database_url=SecretStr(url)), "test")


async def tallies(url: str) -> list[int]:
    """The ids of a database's tallies."""
    database = opened(url)
    async with database.engine.connect() as connection:
        found = list((await connection.execute(TALLY_IDS)).scalars())
    await database.dispose()
    return found


async def add_tally(url: str) -> None:
    """Add one."""
    database = opened(url)
    async with database.engine.begin() as connection:
        await connection.execute(insert(Tally).values(id=1, value=0))
    await database.dispose()


@pytest.fixture
async def database_url(server: DatabaseServer) -> AsyncIterator[str]:
    """A fresh database, on the server in question."""
    async with server.fresh() as url:
        yield url


async def test_a_fresh_database_is_migrated(server: DatabaseServer) -> None:
    """It has the ledger of the newest version, its guards and the shop's tables, all empty."""
    async with server.fresh() as url:
        assert await tallies(url) == []
        database = opened(url)
        await check_version(database)
        async with database.engine.connect() as connection:
            assert await database.dialect.missing_guards(connection) == []
        await database.dispose()


async def test_databases_are_apart(server: DatabaseServer) -> None:
    """What one test writes no other one reads."""
    async with server.fresh() as one, server.fresh() as other:
        await add_tally(one)
        assert (await tallies(one), await tallies(other)) == ([1], [])


async def test_an_empty_database_has_no_tables(server: DatabaseServer) -> None:
    """It is as a user's is who has not migrated it yet."""

    def names(connection: Connection) -> list[str]:
        return inspect(connection).get_table_names()

    async with server.empty() as url:
        database = opened(url)
        async with database.engine.connect() as connection:
            assert await connection.run_sync(names) == []
        await database.dispose()


async def test_a_copy_is_whole_and_apart(server: DatabaseServer) -> None:
    """A copy has the rows, the version and the guards of its original, and nothing flows back."""
    async with server.fresh() as url:
        await add_tally(url)
        async with copy_of(url) as copy:
            assert await tallies(copy) == [1]
            database = opened(copy)
            await check_version(database)
            async with database.engine.begin() as connection:
                assert await database.dialect.missing_guards(connection) == []
                await connection.execute(insert(Tally).values(id=2, value=0))
            await database.dispose()
        assert await tallies(url) == [1]


async def test_a_database_goes_although_somebody_uses_it(server: DatabaseServer) -> None:
    """A session that a failed test has left open holds nobody up."""
    async with asyncio.timeout(20):
        async with server.fresh() as url:
            database = opened(url)
            connection = await database.engine.connect()
            await connection.execute(TALLY_IDS)
    await connection.invalidate()
    await database.dispose()


@pytest.mark.parametrize(("first", "last", "step"), [(1, 3, 1), (0, 10, 4), (5, 1, -2), (7, 7, 1), (1, 2000, 1)])
async def test_numbers_are_spelt(database: Database, spelling: Spelling, first: int, last: int, step: int) -> None:
    """A derived table of numbers, both ends included."""
    async with database.engine.connect() as connection:
        found = await connection.execute(text(f"SELECT n FROM {spelling.numbers(first, last, step)}"))
        ends = last + (1 if step > 0 else -1)
        assert sorted(found.scalars()) == sorted(range(first, ends, step))


async def test_moments_are_spelt(database: Database, spelling: Spelling) -> None:
    """What SQL says of the time is what the model reads."""
    name, three = spelling.joined("'x'", "n"), spelling.as_integer("'3'")
    async with database.engine.begin() as connection:
        for sku, moment in {"now": spelling.now, "then": spelling.ago("n * 60 + 0.5")}.items():
            await connection.execute(
                text(
                    "INSERT INTO item (sku, name, quantity, price, counted_at)"
                    f" SELECT '{sku}', {name}, {three}, 1, {moment}"
                    f" FROM {spelling.numbers(60, 60)}"
                )
            )
    async with database.engine.connect() as connection:
        found = (await connection.execute(ITEMS)).all()
    assert [(sku, name, quantity) for sku, name, quantity, _ in found] == [("now", "x60", 3), ("then", "x60", 3)]
    apart = [moment.replace(tzinfo=UTC) - datetime.now(UTC) for *_, moment in found]
    assert abs(apart[0]) < timedelta(seconds=20)
    assert abs(apart[0] - apart[1] - timedelta(seconds=3600.5)) < timedelta(seconds=2)


async def test_types_are_spelt(database: Database, spelling: Spelling) -> None:
    """Each is a type that a table can have."""
    types = ["moment", "local", "text", "double", "raw", "document", "uuid"]
    columns = ", ".join(f"c_{name} {getattr(spelling, name)}" for name in types)
    async with database.engine.begin() as connection:
        await connection.execute(
            text(f"CREATE TABLE kinds (id {spelling.counted}, {columns}, c_money {spelling.money(12, 2)})")
        )
        await connection.execute(text("INSERT INTO kinds (c_text) VALUES ('a'), ('b')"))
        found = await connection.execute(text(f"SELECT {spelling.as_text('id')} FROM kinds ORDER BY id"))
        assert [str(value) for value in found.scalars()] == ["1", "2"]


async def test_a_check_is_added(database: Database, spelling: Spelling) -> None:
    """It refuses rows, on other connections too, and keeps those that are there."""
    async with database.engine.begin() as connection:
        await connection.execute(insert(Tally).values(id=1, value=0))
        for statement in spelling.with_check("tally", "value <> 5 AND value % 7 <> 6"):
            await connection.execute(text(statement))
    async with database.engine.connect() as other:
        await other.execute(insert(Tally).values(id=2, value=7))
        with pytest.raises(DBAPIError):
            await other.execute(insert(Tally).values(id=3, value=5))
