"""Walks over tables by span, and the rows that a database refuses, on each database."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import CheckConstraint, Column, ColumnElement, ForeignKey, String, insert, select, update
from sqlalchemy.types import TypeEngine

from tests.conftest import MakeRunner
from tests.support.chosen import Backend
from tests.support.column_types import MOMENT, WALL
from tests.support.items import ITEM
from tests.support.own_session import execute, rows_of, value_of
from tests.support.rebuild import rebuild
from tests.support.spelling import Spelling
from worker import JobContext, Registry, job, parse_where, primary_walk, where_clause
from worker.core.outcomes import Failed, Succeeded
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database

WALKS = Registry()


@job(registry=WALKS)
async def reprice(ctx: JobContext, where: dict[str, object] | None = None, price: int = 7) -> dict[str, int]:
    """Give the items that are meant another price and count them; an item that is refused is counted apart."""
    target = ctx.tables.get("item")
    facts = await ctx.tools.table_facts(target.table)
    matching = where_clause(parse_where(where), target.table, facts, ctx.started_at)

    async def apply(these: ColumnElement[bool]) -> int:
        return int((await ctx.tools.execute(update(ITEM).where(these).values(price=price))).rowcount)

    async for span in ctx.spans(primary_walk(target.table, facts), matching):
        matched = await ctx.tools.lock_span(span, keys_stay=True)
        found = await ctx.tools.apply_span(span, apply)
        ctx.progress.count(matched=matched, updated=sum(found.results), refused=len(found.refused))
        span.keep["spans"] = span.number
    return {**ctx.progress.counters, "spans": int(str(ctx.kept.get("spans", 0)))}


@job(registry=WALKS)
async def put(ctx: JobContext, rows: list[dict[str, str | None]]) -> list[str]:
    """Insert items as far as the database takes them; returns the keys of the refused."""

    async def apply(some: Sequence[dict[str, str | None]]) -> None:
        await ctx.tools.execute(insert(ITEM).values([{**row, "name": "x", "quantity": 1, "price": 1} for row in some]))

    found = await ctx.tools.isolate(rows, apply)
    return [str(refused.item["sku"]) for refused in found.refused]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of ten rows, always."""
    return settings.model_copy(update={"chunk_start_rows": 10, "chunk_min_rows": 10, "chunk_max_rows": 10})


@pytest.fixture
async def items(database: Database) -> None:
    """A hundred items; their keys are not in the order of their numbers."""
    rows = [
        {"sku": f"S{n * 37 % 100:03}", "name": f"item {n}", "quantity": n, "price": 1, "counted_at": None}
        for n in range(100)
    ]
    async with database.engine.begin() as connection:
        await connection.execute(insert(ITEM), rows)


def delivery(job_name: str, **params: object) -> Delivery:
    """A delivery of one of this module's jobs."""
    return Delivery("w", job_name, params, {}, "arq:queue", 1)


async def run(make_runner: MakeRunner, job_name: str, **params: object) -> Succeeded | Failed:
    """Run one of this module's jobs to its end."""
    runner = make_runner()
    object.__setattr__(runner, "registry", WALKS)
    outcome = await runner.run(delivery(job_name, **params))
    assert isinstance(outcome, Succeeded | Failed), outcome
    return outcome


@pytest.mark.usefixtures("items")
async def test_a_walk_meets_every_row_once(make_runner: MakeRunner, database: Database) -> None:
    """All rows are meant, and each is met in one of ten spans."""
    outcome = await run(make_runner, "reprice")
    assert outcome == Succeeded({"matched": 100, "updated": 100, "refused": 0, "spans": 10})
    assert await value_of(database, "SELECT count(*) FROM item WHERE price = 7") == 100


@pytest.mark.usefixtures("items")
async def test_a_sparse_condition_costs_bounded_spans(make_runner: MakeRunner) -> None:
    """Rows that do not match are passed over a span at a time."""
    outcome = await run(make_runner, "reprice", where={"quantity": {"between": [42, 43]}})
    assert outcome == Succeeded({"matched": 2, "updated": 2, "refused": 0, "spans": 10})


async def test_an_empty_table_is_no_work(make_runner: MakeRunner) -> None:
    """A walk over nothing ends at once."""
    assert await run(make_runner, "reprice") == Succeeded({"spans": 0})


@pytest.mark.usefixtures("items")
async def test_refused_rows_are_found_and_the_others_kept(make_runner: MakeRunner, database: Database) -> None:
    """Of a span the rows that violate a constraint stay as they were, and all others are changed."""
    await rebuild(database, ITEM, CheckConstraint("quantity % 30 <> 5 OR price < 5"))
    outcome = await run(make_runner, "reprice", where={"quantity": {"lt": 90}})
    assert outcome == Succeeded({"matched": 90, "updated": 87, "refused": 3, "spans": 10})
    kept = await rows_of(database, select(ITEM.c.quantity).where(ITEM.c.price == 1).order_by(ITEM.c.quantity))
    assert kept == [(n,) for n in (5, 35, 65, *range(90, 100))]


async def test_a_row_that_needs_a_later_one_is_tried_again(make_runner: MakeRunner, database: Database) -> None:
    """A child before its parent is refused at first while a bad row is looked for, and gets in all the same."""
    parent = Column("note", String(40), ForeignKey("item.sku"))
    await rebuild(database, ITEM, parent, CheckConstraint("sku <> 'bad'"))
    rows = [{"sku": "child", "note": "root"}, *({"sku": sku, "note": None} for sku in ("bad", "a", "root"))]
    assert await run(make_runner, "put", rows=rows) == Succeeded(["bad"])


@pytest.mark.usefixtures("items")
async def test_rows_added_behind_the_end_are_not_chased(make_runner: MakeRunner, database: Database) -> None:
    """A walk ends at the key that was last when it started."""
    runner = make_runner()
    object.__setattr__(runner, "registry", WALKS)
    object.__setattr__(runner, "emit", lambda event: runner.stop.set() if "Chunk" in type(event).__name__ else None)
    await runner.run(delivery("reprice"))
    async with database.engine.begin() as connection:
        await connection.execute(insert(ITEM), [{"sku": "Z", "name": "new", "quantity": 1, "price": 1}])
    outcome = await run(make_runner, "reprice")
    assert isinstance(outcome, Succeeded)
    assert outcome.result == {"matched": 100, "updated": 100, "refused": 0, "spans": 10}


@pytest.mark.parametrize(
    ("where", "matched"),
    [
        ({"sku": {"eq": "S001"}}, 1),
        ({"sku": {"ne": "S001"}}, 99),
        ({"sku": {"like": "S00%"}}, 10),
        ({"quantity": {"le": 9}}, 10),
        ({"quantity": {"gt": 90}}, 9),
        ({"quantity": {"ge": 90}}, 10),
        ({"quantity": {"in": [1, 2, 500]}}, 2),
        ({"price": {"eq": "1.00"}}, 100),
        ({"note": {"is_null": True}}, 100),
        ({"counted_at": {"is_null": False}}, 0),
        ({"not": {"quantity": {"lt": 40}}}, 60),
        ({"or": [{"quantity": {"lt": 10}}, {"quantity": {"ge": 95}}]}, 15),
        ({"and": [{"quantity": {"lt": 10}}, {"quantity": {"ge": 5}}]}, 5),
    ],
)
@pytest.mark.usefixtures("items")
async def test_each_operator(make_runner: MakeRunner, where: dict[str, object], matched: int) -> None:
    """Every operator means what SQL means by it."""
    outcome = await run(make_runner, "reprice", where=where)
    assert isinstance(outcome, Succeeded)
    assert isinstance(outcome.result, dict)
    assert outcome.result["matched"] == matched


@pytest.mark.parametrize("type_", [MOMENT, WALL], ids=["with a zone", "without"])
@pytest.mark.usefixtures("items")
async def test_ages_are_counted_from_the_runs_start(
    make_runner: MakeRunner, database: Database, spelling: Spelling, backend: Backend, type_: TypeEngine[Any]
) -> None:
    """`older_than` is frozen at the start, and holds for columns with a time zone and without."""
    await rebuild(database, ITEM, types={"counted_at": type_})
    ago = spelling.ago("quantity * 86400")
    in_utc = f"({ago} AT TIME ZONE 'UTC')" if backend == "postgresql" and type_ is WALL else ago
    await execute(database, f"UPDATE item SET counted_at = {in_utc}")
    outcome = await run(make_runner, "reprice", where={"counted_at": {"older_than": "89d12h"}})
    assert isinstance(outcome, Succeeded)
    assert isinstance(outcome.result, dict)
    assert outcome.result["matched"] == 10
    moment = datetime.now(UTC).isoformat()
    assert await run(make_runner, "reprice", where={"counted_at": {"gt": moment}}) == outcome


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"colour": {"eq": 1}}, "no column 'colour'"),
        ({"quantity": {"lt": "many"}}, "valid integer"),
        ({"quantity": {"like": "1%"}}, "no text"),
        ({"name": {"older_than": "1d"}}, "no date"),
    ],
)
async def test_a_where_that_the_table_cannot_answer(
    make_runner: MakeRunner, where: dict[str, object], said: str
) -> None:
    """What does not fit the table fails the run with one clear line."""
    outcome = await run(make_runner, "reprice", where=where)
    assert isinstance(outcome, Failed)
    assert said in outcome.error.message


async def test_a_table_without_a_primary_key_is_refused(make_runner: MakeRunner, database: Database) -> None:
    """A table that cannot be walked in bounded chunks is not walked at all."""
    await rebuild(database, ITEM, Column("sku", String(40)))
    outcome = await run(make_runner, "reprice")
    assert isinstance(outcome, Failed)
    assert "no primary key" in outcome.error.message
