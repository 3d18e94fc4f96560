"""`batch_update` with `where` and `set`: which rows are met, what is written, what is refused."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import CheckConstraint, Column, Computed, DateTime, Integer, Table, func, select
from sqlalchemy.types import JSON, UserDefinedType
from sqlmodel import Field, SQLModel

from tests.conftest import MakeRunner
from tests.support.chosen import Backend
from tests.support.items import ITEM, execute, in_chunks_of, items, put, quarantined, rows, stored
from tests.support.outcomes import message
from tests.support.rebuild import rebuild, reshaped
from tests.support.refusal_codes import CHECK
from tests.support.sent_statements import chunks, statements
from tests.support.shop_models import Item
from tests.support.triggers import note_writes, noted
from tests.support.updates import counts, delivery, update
from worker.core.settings import Settings
from worker.database.engine import Database
from worker.declare.tables import RegisteredTable, Tables
from worker.run.runner import Runner

ALL = {"all": True}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of four rows, always."""
    return in_chunks_of(settings, 4)


@pytest.fixture
async def thirty_items(database: Database) -> None:
    """Thirty items; their keys are not in the order of their numbers."""
    await put(database, [{"sku": f"S{n * 7 % 30:02}", "quantity": n} for n in range(30)])


@pytest.mark.usefixtures("thirty_items")
async def test_the_rows_that_are_meant_get_the_values(make_runner: MakeRunner, database: Database) -> None:
    """Rows of the where get every value of the set, converted as their columns want them; the others stay."""
    changed = {"price": "7.50", "name": "ä", "counted_at": "2026-01-02T03:04:05"}
    outcome = await make_runner().run(update(where={"quantity": {"lt": 20}}, set=changed))
    assert counts(outcome) == {"read": 20, "updated": 20}
    found = await items(database, "quantity", "price", "name", "counted_at")
    # without a zone where the database keeps none: what is stored is UTC
    changed_rows = {(price, name, at and at.replace(tzinfo=UTC)) for _, price, name, at in found[:20]}  # type: ignore[attr-defined]  # a row's values are of any type
    assert changed_rows == {(Decimal("7.5"), "ä", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))}
    assert {tuple(values) for _, *values in found[20:]} == {(Decimal(1), "x", None)}


@pytest.mark.usefixtures("thirty_items")
async def test_unchanged_rows_are_not_written(make_runner: MakeRunner, database: Database, backend: Backend) -> None:
    """A row that has the values already is left alone, sets off no trigger, and is counted as unchanged."""
    await execute(database, "UPDATE item SET note = 'done', price = 2 WHERE quantity % 3 = 0")
    await note_writes(database, backend)
    outcome = await make_runner().run(update(where={"quantity": {"ge": 0}}, set={"note": "done", "price": 2}))
    assert counts(outcome) == {"read": 30, "updated": 20, "unchanged": 10}
    changed = [sku for sku, quantity in await items(database, "sku", "quantity") if int(str(quantity)) % 3]
    assert sorted(await noted(database)) == changed


@pytest.mark.usefixtures("thirty_items")
async def test_a_column_of_the_where_may_be_set(make_runner: MakeRunner, database: Database) -> None:
    """A row that stops matching by being changed is met once, and none is passed over for it."""
    await execute(database, "UPDATE item SET note = CASE WHEN quantity % 2 = 0 THEN 'open' ELSE 'held' END")
    outcome = await make_runner().run(update(where={"note": {"eq": "open"}}, set={"note": "closed"}))
    assert counts(outcome) == {"read": 15, "updated": 15}
    assert Counter((await stored(database, "note")).values()) == {"closed": 15, "held": 15}


@pytest.mark.usefixtures("thirty_items")
async def test_null_where_the_column_admits_it(make_runner: MakeRunner, database: Database) -> None:
    """A null is a value of a nullable column, and differs from any other."""
    await execute(database, "UPDATE item SET note = 'x' WHERE quantity < 5")
    outcome = await make_runner().run(update(options=ALL, set={"note": None}))
    assert counts(outcome) == {"read": 30, "updated": 5, "unchanged": 25}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": None}, "'name' may not be null"),
        ({"quantity": "many"}, "valid integer"),
        ({"quantity": 2**63}, "outside the column's range"),
        ({"price": "1.005"}, "more than 2 decimals"),
        ({"sku": "A"}, "part of the primary key"),
        ({"nmae": "A"}, "Did you mean 'name'"),
        ({}, "names no column"),
    ],
)
@pytest.mark.usefixtures("thirty_items")
async def test_a_set_that_does_not_fit(
    make_runner: MakeRunner, database: Database, changed: dict[str, object], said: str
) -> None:
    """A value or a column that cannot be fails the run once, before anything is written."""
    runner = make_runner()
    before = await items(database, *ITEM.c.keys())
    assert said in message(await runner.run(update(where={"quantity": {"lt": 9}}, set=changed)))
    assert (await runner.ledger.read("u")).attempts == 1
    assert await items(database, *ITEM.c.keys()) == before


async def test_a_generated_column_cannot_be_set(make_runner: MakeRunner, database: Database) -> None:
    """What the database alone writes is refused, whatever the model says."""
    await rebuild(database, ITEM, Column("quantity", Integer, Computed("1", persisted=True)))
    said = message(await make_runner().run(update(where={"sku": {"eq": "A"}}, set={"quantity": 2})))
    assert "'quantity'" in said
    assert "the database alone writes" in said


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"where": {"sku": {"eq": "A"}}},
        {"set": {"name": "x"}, "source": {"rows": [{"sku": "A", "name": "x"}]}},
        {"set": {"name": "x"}, "key": ["sku"]},
        {"key": ["sku"]},
        {"where": {"sku": {"eq": "A"}}, "source": {"rows": [{"sku": "A", "name": "x"}]}},
    ],
)
async def test_exactly_one_of_the_two_forms(make_runner: MakeRunner, params: dict[str, object]) -> None:
    """Neither form, both, or parts of each are refused with an example of each, and with what was given."""
    said = message(await make_runner().run(delivery(params)))
    assert "takes either `set`" in said
    assert '"set": {"status": "open"}' in said
    assert (
        f"Given were: {', '.join(name for name in ('where', 'set', 'source', 'key') if name in params) or 'neither'}"
        in said
    )


@pytest.mark.parametrize("where", [None, {}])
@pytest.mark.usefixtures("thirty_items")
async def test_every_row_only_where_the_option_says_so(
    make_runner: MakeRunner, where: dict[str, object] | None
) -> None:
    """Without a where, or with an empty one, the run fails unless the option `all` allows it."""
    runner = make_runner()
    assert '"all"' in message(await runner.run(update("one", where=where, set={"price": 3})))
    assert counts(await runner.run(update("two", options=ALL, where=where, set={"price": 3})))["updated"] == 30


@pytest.mark.usefixtures("thirty_items")
async def test_the_operation_must_be_allowed(make_runner: MakeRunner) -> None:
    """A table that WORKER_ALLOW opens for something else only is not updated."""
    runner = make_runner()
    runner = replace(runner, tables=Tables({"item": RegisteredTable("item", ITEM, Item)}, {"item": ("upsert",)}))
    assert "does not allow 'update'" in message(await runner.run(update(options=ALL, set={"price": 3})))


@pytest.mark.usefixtures("thirty_items")
async def test_refused_rows_are_put_aside(make_runner: MakeRunner, database: Database, backend: Backend) -> None:
    """A row that violates a constraint stays as it was and is kept with key, values, code and constraint."""
    await rebuild(database, ITEM, CheckConstraint("quantity % 10 <> 5 OR price < 5", name="cheap"))
    runner = make_runner()
    outcome = await runner.run(update(where={"quantity": {"ge": 2}}, set={"price": "9.00", "note": None}))
    assert counts(outcome) == {"read": 28, "updated": 25, "quarantined": 3}
    refused = await quarantined(database)
    skus = [sku for sku, quantity in await items(database, "sku", "quantity") if int(str(quantity)) % 10 == 5]
    assert [row.payload for row in refused] == [{"sku": sku, "price": "9.00", "note": None} for sku in skus]
    assert {(row.sqlstate, "cheap" in row.reason, row.position) for row in refused} == {(CHECK[backend], True, 0)}
    assert {row.constraint for row in refused} == {"cheap" if backend == "postgresql" else None}


@pytest.mark.usefixtures("thirty_items")
async def test_on_invalid_fail_keeps_nothing_of_the_chunk(make_runner: MakeRunner, database: Database) -> None:
    """With on_invalid="fail" the run ends with the database's own error at the first chunk that has a refused row."""
    await rebuild(database, ITEM, CheckConstraint("sku <> 'S06' OR price < 5", name="cheap"))
    assert "cheap" in message(await make_runner().run(update(options=ALL, set={"price": 9}, on_invalid="fail")))
    assert [sku for sku, price in await items(database, "sku", "price") if price == 9] == [f"S0{n}" for n in range(4)]


async def test_a_run_whose_rows_are_mostly_refused_is_stopped(make_runner: MakeRunner, database: Database) -> None:
    """More than half of at least fifty refused rows fail the run; what was committed stays, quarantine included."""
    await put(database, [{"sku": f"S{n:03}", "quantity": n} for n in range(80)])
    await rebuild(database, ITEM, CheckConstraint("quantity % 3 = 0 OR price < 5", name="cheap"))
    runner = make_runner()
    said = message(await runner.run(update(options=ALL, set={"price": 9})))
    record = await runner.ledger.read("u")
    assert "heavylift quarantine u" in said
    assert (record.counters["read"], record.counters["quarantined"]) == (52, 34)
    assert list((await stored(database, "price")).values()).count(Decimal(9)) == 18
    assert len(await quarantined(database)) == 34


class Xml(UserDefinedType[str]):
    """PostgreSQL's type of documents in XML."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Its name."""
        return "xml"


async def test_a_document_is_compared_as_text(make_runner: MakeRunner, database: Database) -> None:
    """A document is written where its text differs, and left where it does not."""
    shape = reshaped(ITEM, types={"note": JSON(none_as_null=True)})
    runner = replace(make_runner(), tables=Tables({"item": RegisteredTable("item", shape, None)}, {}))
    await _write_twice(runner, database, shape, {"a": 1})


@pytest.mark.only_on("postgresql", why="no other database has a type of XML")
async def test_a_document_in_xml_is_compared_as_text(make_runner: MakeRunner, database: Database) -> None:
    """A type that knows no equality is no hindrance."""
    built = "SELECT 1 FROM pg_catalog.pg_config() WHERE name = 'CONFIGURE' AND setting LIKE '%libxml%'"
    if not await rows(database, built):
        pytest.skip("this server was built without XML")
    await _write_twice(make_runner(), database, reshaped(ITEM, types={"note": Xml()}), "<a>1</a>")


async def _write_twice(runner: Runner, database: Database, shape: Table, document: object) -> None:
    await put(database, [{"sku": f"S{n}"} for n in range(3)])
    await rebuild(database, ITEM, types={"note": shape.c.note.type})
    assert counts(await runner.run(update("one", options=ALL, set={"note": document}))) == {"read": 3, "updated": 3}
    assert counts(await runner.run(update("two", options=ALL, set={"note": document}))) == {"read": 3, "unchanged": 3}


class Stamped(SQLModel, table=True):
    """A row that knows when and how it was last changed."""

    __tablename__ = "stamped"

    id: int = Field(primary_key=True)
    name: str
    version: int = Field(default=0, sa_column_kwargs={"onupdate": lambda: 8})
    changed_at: datetime | None = Field(
        default=None, sa_column=Column(DateTime(timezone=True), onupdate=func.now(), nullable=True)
    )


@pytest.fixture
async def stamped(database: Database) -> Tables:
    """Two stamped rows, and the tables to run with."""
    table = Stamped.__table__  # type: ignore[attr-defined]  # SQLModel sets it
    async with database.engine.begin() as connection:
        await connection.run_sync(table.create)
    await execute(database, "INSERT INTO stamped (id, name, version) VALUES (1, 'old', 1), (2, 'new', 1)")
    return Tables({"stamped": RegisteredTable("stamped", table, Stamped)}, {})


@pytest.mark.parametrize(
    "params",
    [
        {"where": {"id": {"gt": 0}}, "set": {"name": "new"}},
        {"source": {"rows": [{"id": 1, "name": "new"}, {"id": 2, "name": "new"}]}},
    ],
)
async def test_onupdate_is_for_rows_that_change(
    make_runner: MakeRunner, database: Database, stamped: Tables, params: dict[str, object]
) -> None:
    """A model's `onupdate`, in Python and in SQL, reaches the rows that really change, and no others."""
    runner = replace(make_runner(), tables=stamped)
    outcome = await runner.run(delivery({**params, "table": "stamped"}))
    assert counts(outcome) == {"read": 2, "updated": 1, "unchanged": 1}
    table = stamped.get("stamped").table
    found = await rows(database, select(table.c.id, table.c.version, table.c.changed_at.is_(None)).order_by(table.c.id))
    assert found == [(1, 8, False), (2, 1, True)]


STATEMENTS: dict[Backend, list[str]] = {
    "postgresql": ["WITH"],
    "sqlite": ["SELECT", "UPDATE"],
    "mariadb": ["SELECT", "UPDATE"],
}


@pytest.mark.usefixtures("thirty_items")
async def test_statements_of_a_chunk(make_runner: MakeRunner, backend: Backend) -> None:
    """A chunk is a statement or two in a savepoint beside the span's end and the cursor, whatever it changes."""
    runner = make_runner()
    with statements(runner.ledger.database) as seen:
        await runner.run(update(options=ALL, set={"price": 3}))
    # before the savepoint: where the span ends
    expected = ["SELECT", "SAVEPOINT", *STATEMENTS[backend], "RELEASE", "UPDATE"]
    first, *others = chunks(seen)
    # and before the first one, where the walk ends
    assert first == ["SELECT", *expected]
    assert others == [expected] * 7
