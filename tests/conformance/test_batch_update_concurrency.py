"""Updates beside other sessions: what is locked, and what counts of a row that changes on the way to its lock."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from sqlalchemy import text

from tests.support.chosen import Backend
from tests.support.items import ITEM, execute, items, put
from tests.support.lock_waits import until_somebody_waits
from worker.core.table_facts import TableFacts
from worker.core.update_counts import UpdateCounts
from worker.database.engine import Database

Update = Callable[[], Awaitable[UpdateCounts]]
REFERENCES = pytest.mark.only_on(
    "postgresql", why="no other database has a row lock of its own for what refers to a row"
)
Meanwhile = Callable[..., AbstractAsyncContextManager[asyncio.Task[UpdateCounts]]]


@pytest.fixture
async def facts(database: Database) -> TableFacts:
    """Items A, B and C, with quantities 1, 2 and 3; and what the database says of their table."""
    await put(database, [{"sku": sku, "quantity": n, "shelf": 1, "slot": n} for n, sku in enumerate("ABC", start=1)])
    async with database.engine.connect() as connection:
        return await database.dialect.table_facts(connection, ITEM)


def own_values(database: Database, facts: TableFacts, values: dict[str, int], column: str = "quantity") -> Update:
    """An update of rows by key, each with a value of its own, in a transaction of its own."""
    update = database.dialect.row_update(ITEM, facts, columns=["sku", column], key=["sku"])

    async def run() -> UpdateCounts:
        async with database.engine.begin() as connection:
            return await update.apply(connection, [list(values), list(values.values())])

    return run


def same_value(database: Database, facts: TableFacts, quantity: int) -> Update:
    """An update that gives the items on shelf 1 a quantity, in a transaction of its own."""
    update = database.dialect.where_update(ITEM, facts, {"quantity": quantity})

    async def run() -> UpdateCounts:
        async with database.engine.begin() as connection:
            return await update.apply(connection, ITEM.c.shelf == 1)

    return run


@pytest.fixture
def meanwhile(database: Database, backend: Backend) -> Meanwhile:
    """Another session's statements, committed while the update that was sent after them waits for their locks."""

    @asynccontextmanager
    async def block(update: Update, *theirs: str) -> AsyncIterator[asyncio.Task[UpdateCounts]]:
        async with database.engine.connect() as other:
            for statement in theirs:
                await other.execute(text(statement))
            async with until_somebody_waits(database, backend):
                waiting = asyncio.create_task(_counts(update))
            await other.commit()
            yield waiting

    return block


async def _counts(update: Update) -> UpdateCounts:
    return await update()


async def test_a_row_changed_meanwhile_is_judged_as_it_is(
    database: Database, meanwhile: Meanwhile, facts: TableFacts
) -> None:
    """A row that had the value when the update began, and has another once it is locked, is updated."""
    update = own_values(database, facts, {"A": 1, "B": 2})
    async with meanwhile(update, "UPDATE item SET quantity = 50 WHERE sku = 'A'") as done:
        assert await done == UpdateCounts(updated=1, unchanged=1)
    assert await items(database, "sku", "quantity") == [("A", 1), ("B", 2), ("C", 3)]


async def test_a_row_that_gets_its_value_meanwhile_is_unchanged(
    database: Database, meanwhile: Meanwhile, facts: TableFacts
) -> None:
    """A row to which another session gave the very value is not written again."""
    update = own_values(database, facts, {"A": 7, "B": 7})
    async with meanwhile(update, "UPDATE item SET quantity = 7 WHERE sku = 'A'") as done:
        assert await done == UpdateCounts(updated=1, unchanged=1)


@pytest.mark.parametrize("theirs", ["DELETE FROM item WHERE sku = 'A'", "UPDATE item SET sku = 'Z' WHERE sku = 'A'"])
async def test_a_row_that_goes_meanwhile_is_missing(
    database: Database, meanwhile: Meanwhile, facts: TableFacts, theirs: str
) -> None:
    """A row that was deleted, or given another key, before it could be locked counts as missing."""
    async with meanwhile(own_values(database, facts, {"A": 9, "B": 9}), theirs) as done:
        assert await done == UpdateCounts(updated=1, unchanged=0, missing=1)
    assert (await items(database, "sku", "quantity"))[-1] in {("C", 3), ("Z", 1)}


async def test_a_row_that_stops_matching_meanwhile_is_left(
    database: Database, meanwhile: Meanwhile, facts: TableFacts
) -> None:
    """A row that the condition meant when the update began, and means no more once it is locked, is not counted."""
    theirs = "UPDATE item SET shelf = 2 WHERE sku = 'A'"
    async with meanwhile(same_value(database, facts, 9), theirs) as done:
        assert await done == UpdateCounts(updated=2, unchanged=0)
    assert await items(database, "sku", "quantity") == [("A", 1), ("B", 9), ("C", 9)]


async def test_a_row_that_begins_to_match_meanwhile_came_later_or_counts(
    database: Database, backend: Backend, meanwhile: Meanwhile, facts: TableFacts
) -> None:
    """What another session adds while the update waits is written and counted, or neither: counts add up all the same.

    PostgreSQL looks for rows before it waits. SQLite begins when it has waited, and MariaDB locks what it finds.
    """
    await execute(database, "UPDATE item SET shelf = 2 WHERE sku = 'C'")
    theirs = [
        "UPDATE item SET shelf = 1 WHERE sku = 'C'",
        "INSERT INTO item (sku, name, quantity, price, shelf) VALUES ('AA', 'x', 5, 1, 1)",
        "UPDATE item SET quantity = 9 WHERE sku = 'A'",
    ]
    async with meanwhile(same_value(database, facts, 9), *theirs) as done:
        found = await done
    left = backend == "postgresql"
    assert found == UpdateCounts(updated=1 if left else 3, unchanged=1)
    late = [("AA", 5), ("C", 3)] if left else [("AA", 9), ("C", 9)]
    assert await items(database, "sku", "quantity") == sorted([("A", 9), ("B", 9), *late])


async def test_a_matching_row_changed_meanwhile_is_judged_as_it_is(
    database: Database, meanwhile: Meanwhile, facts: TableFacts
) -> None:
    """A row that had the value when the update began, and has another once it is locked, is updated."""
    theirs = "UPDATE item SET quantity = 50 WHERE sku = 'C'"
    async with meanwhile(same_value(database, facts, 3), theirs) as done:
        assert await done == UpdateCounts(updated=3, unchanged=0)


@REFERENCES
async def test_references_may_go_on_being_inserted(database: Database, facts: TableFacts) -> None:
    """An update that leaves keys alone does not wait for a foreign key's check of the row, nor that for it."""
    async with database.engine.connect() as other:
        await other.execute(text("SELECT 1 FROM item WHERE sku = 'A' FOR KEY SHARE"))
        assert await own_values(database, facts, {"A": 9})() == UpdateCounts(updated=1, unchanged=0)


@REFERENCES
async def test_a_unique_column_is_locked_as_such(database: Database, facts: TableFacts) -> None:
    """An update of another unique key locks its rows against references at once, and not only when it writes them."""
    async with database.engine.connect() as other:
        await other.execute(text("SELECT 1 FROM item WHERE sku = 'A' FOR KEY SHARE"))
        # B is locked after A: were A locked weakly at first, B would be locked by now
        async with until_somebody_waits(database, "postgresql"):
            waiting = asyncio.create_task(_counts(own_values(database, facts, {"B": 12, "A": 11}, "slot")))
        await other.execute(text("SELECT 1 FROM item WHERE sku = 'B' FOR UPDATE NOWAIT"))
        await other.commit()
    assert await waiting == UpdateCounts(updated=2, unchanged=0)


async def test_opposite_orders_never_deadlock(database: Database, facts: TableFacts) -> None:
    """Updates of the same rows, given in opposite orders and by condition, wait for each other and all finish."""
    turns = 20
    keys = [f"K{n:03}" for n in range(200)]
    await put(database, [{"sku": key, "quantity": 0, "shelf": 1, "slot": 100 + n} for n, key in enumerate(keys)])

    async def often(order: list[str], start: int) -> int:
        updates = [own_values(database, facts, dict.fromkeys(order, start + turn)) for turn in range(turns)]
        return sum([(await update()).updated for update in updates])

    async def by_condition() -> int:
        return sum([(await same_value(database, facts, 1000 + turn)()).updated for turn in range(turns)])

    found = await asyncio.gather(often(keys, 1), often(keys[::-1], 101), by_condition())
    assert list(found) == [turns * 200, turns * 200, turns * 203]
