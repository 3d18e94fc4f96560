"""`ctx.chunks`, on each database: a walk by key in short transactions."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlmodel import col, select

from tests.conftest import MODELS, MakeRunner
from tests.support.items import ITEM
from tests.support.own_session import put, rows_of, value_of
from tests.support.shop_models import Item, Tally
from worker import JobContext, Registry, job
from worker.core.clock import SystemClock
from worker.core.outcomes import Failed, Outcome, Succeeded
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database
from worker.declare.tables import find_tables
from worker.run.runner import Runner

TALLY = Tally.__table__  # type: ignore[attr-defined]  # SQLModel sets it
Walk = Callable[[Callable[[JobContext], Awaitable[Any]]], Awaitable[Outcome]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of ten rows, always."""
    return settings.model_copy(update={"chunk_start_rows": 10, "chunk_min_rows": 10, "chunk_max_rows": 10})


@pytest.fixture
async def walk(make_runner: MakeRunner, database: Database) -> Walk:
    """Make 35 tallies and 35 items, and return a function that runs a job on them."""
    await put(database, TALLY, [{"id": n, "value": 0} for n in range(1, 36)])
    items = [{"sku": f"k{n}", "name": "x", "quantity": 0, "price": 1, "shelf": n % 3, "slot": n} for n in range(1, 36)]
    await put(database, ITEM, items)

    async def run(function: Callable[[JobContext], Awaitable[Any]]) -> Outcome:
        registry = Registry()
        job(registry=registry, name="walk")(function)
        plain = make_runner()
        runner = Runner(
            plain.ledger,
            registry,
            find_tables((MODELS,), {}),
            plain.settings,
            plain.stop,
            SystemClock(),
            plain.emit,
            plain.log,
        )
        return await runner.run(Delivery("w", "walk", {}, {}, "arq:queue", 1))

    return run


async def test_a_walk_sees_each_row_once_in_order(walk: Walk) -> None:
    """Chunks come in key order, none larger than asked for, and cover the query."""
    seen: list[list[int]] = []

    async def function(ctx: JobContext) -> int:
        nonlocal seen
        async for chunk in ctx.chunks(select(Tally).where(Tally.id > 3), key=Tally.id):
            seen += [[tally.id for tally in chunk.rows]]
        return ctx.progress.done

    assert await walk(function) == Succeeded(32)
    assert [len(ids) for ids in seen] == [10, 10, 10, 2]
    assert [found for ids in seen for found in ids] == list(range(4, 36))


async def test_a_walk_that_changes_its_own_filter_skips_nothing(walk: Walk, database: Database) -> None:
    """Rows that leave the query while it is walked do not shift the others past the cursor."""

    async def function(ctx: JobContext) -> int:
        async for chunk in ctx.chunks(select(Tally).where(Tally.value == 0), key=Tally.id):
            for tally in chunk.rows:
                tally.value = 1
        return ctx.progress.done

    assert await walk(function) == Succeeded(35)
    assert await value_of(database, "SELECT sum(value) FROM tally") == 35


async def test_a_key_of_two_columns(walk: Walk) -> None:
    """Several columns together are a key."""
    seen: list[str] = []

    async def function(ctx: JobContext) -> int:
        async for chunk in ctx.chunks(select(Item), key=(Item.shelf, Item.slot)):
            seen.extend(item.sku for item in chunk.rows)
        return len(seen)

    assert await walk(function) == Succeeded(35)
    assert seen == [f"k{n}" for shelf in range(3) for n in range(1, 36) if n % 3 == shelf]


async def test_a_text_key_is_walked_in_its_own_order(walk: Walk) -> None:
    """Text is compared by the column's collation, in the walk as in the cursor."""
    seen: list[str] = []

    async def function(ctx: JobContext) -> int:
        async for chunk in ctx.chunks(select(Item), key=Item.sku, lock=False):
            seen.extend(item.sku for item in chunk.rows)
        return len(set(seen))

    assert await walk(function) == Succeeded(35)
    assert len(seen) == 35


async def test_memory_holds_one_chunk(walk: Walk) -> None:
    """What a chunk loaded is let go with it."""
    held: list[int] = []

    async def function(ctx: JobContext) -> None:
        nonlocal held
        async for _ in ctx.chunks(select(Tally), key=Tally.id):
            held += [len(ctx.session.sync_session.identity_map)]

    assert isinstance(await walk(function), Succeeded)
    assert max(held) == 10


async def test_an_order_of_its_own_is_refused(walk: Walk) -> None:
    """A query with ORDER BY cannot be walked by key, and the message shows one that can."""

    async def function(ctx: JobContext) -> None:
        async for _ in ctx.chunks(select(Tally).order_by(col(Tally.value)), key=Tally.id):
            pass

    outcome = await walk(function)
    assert isinstance(outcome, Failed)
    assert "for example ctx.chunks(" in outcome.error.message


async def test_a_savepoint_undoes_a_part(walk: Walk, database: Database) -> None:
    """Inside a chunk a savepoint's failure leaves the rest of the chunk."""

    async def function(ctx: JobContext) -> int:
        async for chunk in ctx.chunks(select(Tally), key=Tally.id):
            for tally in chunk.rows:
                tally.value = 1
            await ctx.session.flush()
            with pytest.raises(RuntimeError):
                await spoil(ctx, chunk.rows[0])
        return ctx.progress.done

    async def spoil(ctx: JobContext, tally: Tally) -> None:
        async with ctx.session.begin_nested():
            tally.value = 100
            await ctx.session.flush()
            raise RuntimeError

    assert await walk(function) == Succeeded(35)
    assert await rows_of(database, "SELECT max(value), sum(value) FROM tally") == [(1, 35)]
