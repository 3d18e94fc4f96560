"""Updates beside other sessions: what is locked, and what counts of a row that changes on the way to its lock."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text

from tests.support.updates import ITEM, execute, put, rows, until_somebody_waits
from worker.core.table_facts import TableFacts
from worker.core.update_counts import UpdateCounts
from worker.database.engine import Database

Update = Callable[[], Awaitable[UpdateCounts]]
QUANTITIES = "SELECT sku, quantity FROM item ORDER BY sku"


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


@asynccontextmanager
async def meanwhile(database: Database, update: Update, *theirs: str) -> AsyncIterator[asyncio.Task[UpdateCounts]]:
    """Another session's statements, committed while the update that was sent after them waits for their locks."""
    async with database.engine.connect() as other:
        for statement in theirs:
            await other.execute(text(statement))
        waiting = asyncio.create_task(_counts(update))
        await until_somebody_waits(database)
        await other.commit()
        yield waiting


async def _counts(update: Update) -> UpdateCounts:
    return await update()


async def test_a_row_changed_meanwhile_is_judged_as_it_is(database: Database, facts: TableFacts) -> None:
    """A row that had the value when the update began, and has another once it is locked, is updated."""
    update = own_values(database, facts, {"A": 1, "B": 2})
    async with meanwhile(database, update, "UPDATE item SET quantity = 50 WHERE sku = 'A'") as done:
        assert await done == UpdateCounts(updated=1, unchanged=1)
    assert await rows(database, QUANTITIES) == [("A", 1), ("B", 2), ("C", 3)]


async def test_a_row_that_gets_its_value_meanwhile_is_unchanged(database: Database, facts: TableFacts) -> None:
    """A row to which another session gave the very value is not written again."""
    update = own_values(database, facts, {"A": 7, "B": 7})
    async with meanwhile(database, update, "UPDATE item SET quantity = 7 WHERE sku = 'A'") as done:
        assert await done == UpdateCounts(updated=1, unchanged=1)


@pytest.mark.parametrize("theirs", ["DELETE FROM item WHERE sku = 'A'", "UPDATE item SET sku = 'Z' WHERE sku = 'A'"])
async def test_a_row_that_goes_meanwhile_is_missing(database: Database, facts: TableFacts, theirs: str) -> None:
    """A row that was deleted, or given another key, before it could be locked counts as missing."""
    async with meanwhile(database, own_values(database, facts, {"A": 9, "B": 9}), theirs) as done:
        assert await done == UpdateCounts(updated=1, unchanged=0, missing=1)
    assert (await rows(database, QUANTITIES))[-1] in {("C", 3), ("Z", 1)}


async def test_a_row_that_stops_matching_meanwhile_is_left(database: Database, facts: TableFacts) -> None:
    """A row that the condition meant when the update began, and means no more once it is locked, is not counted."""
    theirs = "UPDATE item SET shelf = 2 WHERE sku = 'A'"
    async with meanwhile(database, same_value(database, facts, 9), theirs) as done:
        assert await done == UpdateCounts(updated=2, unchanged=0)
    assert await rows(database, QUANTITIES) == [("A", 1), ("B", 9), ("C", 9)]


async def test_a_row_that_begins_to_match_meanwhile_came_later(database: Database, facts: TableFacts) -> None:
    """What another session adds while the update waits is neither written nor counted: counts add up all the same."""
    await execute(database, "UPDATE item SET shelf = 2 WHERE sku = 'C'")
    theirs = [
        "UPDATE item SET shelf = 1 WHERE sku = 'C'",
        "INSERT INTO item (sku, name, quantity, price, shelf) VALUES ('AA', 'x', 5, 1, 1)",
        "UPDATE item SET quantity = 9 WHERE sku = 'A'",
    ]
    async with meanwhile(database, same_value(database, facts, 9), *theirs) as done:
        assert await done == UpdateCounts(updated=1, unchanged=1)
    assert await rows(database, QUANTITIES) == [("A", 9), ("AA", 5), ("B", 9), ("C", 3)]


async def test_a_matching_row_changed_meanwhile_is_judged_as_it_is(database: Database, facts: TableFacts) -> None:
    """A row that had the value when the update began, and has another once it is locked, is updated."""
    theirs = "UPDATE item SET quantity = 50 WHERE sku = 'C'"
    async with meanwhile(database, same_value(database, facts, 3), theirs) as done:
        assert await done == UpdateCounts(updated=3, unchanged=0)


async def test_references_may_go_on_being_inserted(database: Database, facts: TableFacts) -> None:
    """An update that leaves keys alone does not wait for a foreign key's check of the row, nor that for it."""
    async with database.engine.connect() as other:
        await other.execute(text("SELECT 1 FROM item WHERE sku = 'A' FOR KEY SHARE"))
        assert await own_values(database, facts, {"A": 9})() == UpdateCounts(updated=1, unchanged=0)


async def test_a_unique_column_is_locked_as_such(database: Database, facts: TableFacts) -> None:
    """An update of another unique key locks its rows against references at once, and not only when it writes them."""
    async with database.engine.connect() as other:
        await other.execute(text("SELECT 1 FROM item WHERE sku = 'A' FOR KEY SHARE"))
        # B is locked after A: were A locked weakly at first, B would be locked by now
        waiting = asyncio.create_task(_counts(own_values(database, facts, {"B": 12, "A": 11}, "slot")))
        await until_somebody_waits(database)
        await other.execute(text("SELECT 1 FROM item WHERE sku = 'B' FOR UPDATE NOWAIT"))
        await other.commit()
    assert await waiting == UpdateCounts(updated=2, unchanged=0)


async def test_opposite_orders_never_deadlock(database: Database, facts: TableFacts) -> None:
    """Updates of the same rows, given in opposite orders and by condition, wait for each other and all finish."""
    keys = [f"K{n:03}" for n in range(200)]
    await put(database, [{"sku": key, "quantity": 0, "shelf": 1, "slot": 100 + n} for n, key in enumerate(keys)])

    async def often(order: list[str], start: int) -> int:
        turns = [own_values(database, facts, dict.fromkeys(order, start + turn)) for turn in range(20)]
        return sum([(await turn()).updated for turn in turns])

    async def by_condition() -> int:
        return sum([(await same_value(database, facts, 1000 + turn)()).updated for turn in range(20)])

    found = await asyncio.gather(often(keys, 1), often(keys[::-1], 101), by_condition())
    assert list(found) == [20 * 200, 20 * 200, 20 * 203]
