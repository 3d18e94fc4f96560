"""`batch_update` from a source: each row its own values, counted exactly, none inserted."""

import gzip
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, String, UniqueConstraint, select
from sqlmodel import Field, SQLModel

from tests.conftest import MakeRunner
from tests.support.chosen import Backend
from tests.support.items import ITEM, execute, in_chunks_of, inline, items, put, quarantined, rows, stored
from tests.support.outcomes import message
from tests.support.rebuild import rebuild
from tests.support.refusal_codes import CHECK
from tests.support.sent_statements import chunks, statements
from tests.support.triggers import note_writes, noted
from tests.support.updates import counts, delivery, update
from worker.core.settings import Settings
from worker.database.engine import Database
from worker.declare.tables import RegisteredTable, Tables


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of four rows, always."""
    return in_chunks_of(settings, 4)


@pytest.fixture
async def ten_items(database: Database) -> None:
    """Ten items, S0 to S9, each on a place of its own."""
    await put(database, [{"sku": f"S{n}", "quantity": n, "shelf": 1, "slot": n} for n in range(10)])


@pytest.mark.usefixtures("ten_items")
async def test_each_row_gets_its_own_values(make_runner: MakeRunner, database: Database) -> None:
    """Rows are updated, unchanged, missing, superseded or put aside, and nothing is inserted."""
    given = inline(
        {"sku": "S1", "quantity": 100, "price": "1.50"},
        {"sku": "S2", "quantity": 2, "price": 1},
        {"sku": "S3", "quantity": 7, "price": 1},
        {"sku": "S3", "quantity": 300, "price": 1},
        {"sku": "new", "quantity": 1, "price": 1},
        {"sku": "S4", "quantity": "many", "price": 1},
        {"sku": None, "quantity": 1, "price": 1},
    )
    outcome = await make_runner().run(update(source=given))
    expected = {"read": 7, "updated": 2, "unchanged": 1, "missing": 1, "duplicates": 1, "quarantined": 2}
    assert counts(outcome) == expected
    found = {sku: values for sku, *values in await items(database, "sku", "quantity", "price")}
    assert found.keys() == {f"S{n}" for n in range(10)}
    assert (found["S1"], found["S3"], found["S4"]) == ([100, Decimal("1.5")], [300, Decimal(1)], [4, Decimal(1)])


@pytest.mark.usefixtures("ten_items")
async def test_unchanged_rows_are_not_written(make_runner: MakeRunner, database: Database, backend: Backend) -> None:
    """Rows that have their values already are left alone, and no trigger of theirs is set off."""
    await note_writes(database, backend)
    same: list[dict[str, object]] = [{"sku": f"S{n}", "quantity": n, "note": None, "price": "1.0"} for n in range(10)]
    assert counts(await make_runner().run(update(source=inline(*same)))) == {"read": 10, "unchanged": 10}
    assert await noted(database) == []


@pytest.mark.usefixtures("ten_items")
async def test_another_unique_key(make_runner: MakeRunner, database: Database) -> None:
    """Any unique constraint tells rows apart, its columns in any order; those of the key stay."""
    given = inline(*({"slot": n, "shelf": 1, "name": f"new {n}"} for n in range(9, 12)))
    assert counts(await make_runner().run(update(source=given, key=["slot", "shelf"]))) == {
        "read": 3,
        "updated": 1,
        "missing": 2,
    }
    changed = select(ITEM.c.sku, ITEM.c.shelf, ITEM.c.slot).where(ITEM.c.name != "x")
    assert await rows(database, changed) == [("S9", 1, 9)]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"source": inline({"sku": "S1", "name": "x"}), "key": ["name"]}, "(shelf, slot)"),
        ({"source": inline({"sku": "S1", "name": "x"}), "key": ["nmae"]}, "Did you mean 'name'"),
        ({"source": inline({"sku": "S1"})}, "nothing but their key (sku)"),
        ({"source": inline({"name": "x"})}, "lacks key columns"),
        ({"source": inline({"sku": "S1", "colour": "red"})}, "no column 'colour'"),
        ({"table": "itme", "source": inline({"sku": "S1", "name": "x"})}, "Did you mean 'item'"),
        ({"source": {"uri": "file:///etc/hostname", "format": "csv"}}, "WORKER_DATA_DIRS"),
    ],
)
@pytest.mark.usefixtures("ten_items")
async def test_bad_parameters_fail_once_with_one_clear_line(
    make_runner: MakeRunner, database: Database, params: dict[str, object], said: str
) -> None:
    """What cannot be done as asked fails at once, naming what is wrong and what would work; nothing is written."""
    runner = make_runner()
    before = await items(database, *ITEM.c.keys())
    assert said in message(await runner.run(delivery(params)))
    assert (await runner.ledger.read("u")).attempts == 1
    assert await items(database, *ITEM.c.keys()) == before


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.usefixtures("ten_items")
async def test_empty_cells(make_runner: MakeRunner, database: Database, tmp_path: Path, *, packed: bool) -> None:
    """An empty cell is NULL where the column is nullable, '' in a NOT NULL text, and a fault in any other column."""
    path = tmp_path / ("items.csv.gz" if packed else "items.csv")
    body = b"sku,name,quantity,note\nS1,,5,\nS2,b,,kept out\nS3,c,6,d\n"
    path.write_bytes(gzip.compress(body) if packed else body)
    await execute(database, "UPDATE item SET note = 'old'")
    assert counts(await make_runner().run(update(source={"uri": path.as_uri()}))) == {
        "read": 3,
        "updated": 2,
        "quarantined": 1,
    }
    found = await items(database, "sku", "name", "quantity", "note")
    assert found[1:4] == [("S1", "", 5, None), ("S2", "x", 2, "old"), ("S3", "c", 6, "d")]
    (refused,) = await quarantined(database)
    assert (refused.position, refused.reason) == (3, "column 'quantity' may not be empty or null")


class Doubled(SQLModel, table=True):
    """A table whose model, and whose database, have defaults for what a row lacks."""

    __tablename__ = "doubled"

    id: int = Field(primary_key=True)
    name: str
    size: int = 7
    rank: int = Field(sa_column_kwargs={"server_default": "8"})


async def test_defaults_are_for_new_rows(make_runner: MakeRunner, database: Database) -> None:
    """No default fills what a row lacks: columns that no row carries stay, an absent NOT NULL value is refused."""
    table = Doubled.__table__  # type: ignore[attr-defined]  # SQLModel sets it
    async with database.engine.begin() as connection:
        await connection.run_sync(table.create)
    await execute(database, "INSERT INTO doubled VALUES (1, 'a', 1, 1), (2, 'b', 2, 2), (3, 'c', 3, 3)")
    runner = replace(make_runner(), tables=Tables({"doubled": RegisteredTable("doubled", table, Doubled)}, {}))
    only = update("one", table="doubled", source=inline({"id": 1, "name": "new"}))
    assert counts(await runner.run(only)) == {"read": 1, "updated": 1}
    partly = inline({"id": 2, "size": 20, "rank": 20}, {"id": 3, "size": 30}, {"id": 3, "rank": 30})
    assert counts(await runner.run(update("two", table="doubled", source=partly))) == {
        "read": 3,
        "updated": 1,
        "quarantined": 2,
    }
    assert await rows(database, select(table).order_by(table.c.id)) == [
        (1, "new", 1, 1),
        (2, "b", 20, 20),
        (3, "c", 3, 3),
    ]


@pytest.mark.usefixtures("ten_items")
async def test_rows_that_the_database_refuses(make_runner: MakeRunner, database: Database, backend: Backend) -> None:
    """A row that violates a constraint is put aside with its line, payload and code, and the others are written."""
    await rebuild(database, ITEM, CheckConstraint("quantity < 50", name="small"))
    given: list[dict[str, object]] = [{"sku": f"S{n}", "quantity": 99 if n in {2, 7} else n + 10} for n in range(10)]
    assert counts(await make_runner().run(update(source=inline(*given)))) == {
        "read": 10,
        "updated": 8,
        "quarantined": 2,
    }
    refused = await quarantined(database)
    assert [(row.position, row.payload) for row in refused] == [(3, given[2]), (8, given[7])]
    assert {(row.sqlstate, "small" in row.reason) for row in refused} == {(CHECK[backend], True)}
    assert await stored(database) == {f"S{n}": n if n in {2, 7} else n + 10 for n in range(10)}


@pytest.mark.usefixtures("ten_items")
async def test_a_refused_row_gives_way_to_an_earlier_one(make_runner: MakeRunner, database: Database) -> None:
    """Where the database refuses the later of two rows with one key, the earlier one is written."""
    await rebuild(database, ITEM, CheckConstraint("quantity < 50", name="small"))
    given = inline({"sku": "S1", "quantity": 11}, {"sku": "S1", "quantity": 99})
    assert counts(await make_runner().run(update(source=given))) == {"read": 2, "updated": 1, "quarantined": 1}
    assert (await stored(database))["S1"] == 11


@pytest.mark.only_on("postgresql", why="elsewhere what is unique is checked with each row")
@pytest.mark.parametrize(
    "params",
    [
        {"source": inline({"sku": "S1", "slot": 2}, {"sku": "S3", "slot": 33})},
        {"where": {"sku": {"in": ["S1", "S2", "S3"]}}, "set": {"slot": 2}},
    ],
)
@pytest.mark.usefixtures("ten_items")
async def test_what_must_be_unique_at_commit_is_checked_in_time(
    make_runner: MakeRunner, database: Database, params: dict[str, object]
) -> None:
    """A row that a deferred constraint would refuse at COMMIT is put aside, and the others are written."""
    late = UniqueConstraint("shelf", "slot", name="late", deferrable=True, initially="DEFERRED")
    await rebuild(database, ITEM, late, without={"item_place_key"})
    found = counts(await make_runner().run(delivery(params)))
    refused = await quarantined(database)
    assert found["quarantined"] == len(refused) == (1 if "source" in params else 2)
    assert {(row.payload["sku"], row.constraint) for row in refused} <= {("S1", "late"), ("S3", "late")}


REFERRING = [
    {"source": inline({"sku": "S1", "note": "S2"}, {"sku": "S3", "note": "nobody"}, {"sku": "S4", "note": None})},
    {"where": {"sku": {"in": ["S1", "S2", "S3"]}}, "set": {"note": "nobody"}},
]


@pytest.fixture
async def late_reference(database: Database, ten_items: None) -> None:
    """Ten items whose notes refer to items, which is checked at COMMIT."""
    del ten_items
    late = ForeignKeyConstraint(["note"], ["item.sku"], name="late", deferrable=True, initially="DEFERRED")
    await rebuild(database, ITEM, late, types={"note": String(40)})


@pytest.mark.only_on(
    "postgresql", why="MariaDB checks every reference with its row, and SQLite cannot be asked to before COMMIT"
)
@pytest.mark.parametrize("params", REFERRING)
@pytest.mark.usefixtures("late_reference")
async def test_references_that_must_hold_at_commit_are_checked_in_time(
    make_runner: MakeRunner, database: Database, params: dict[str, object]
) -> None:
    """A row whose deferred reference would end the transaction at COMMIT is put aside, and the others are written."""
    found = counts(await make_runner().run(delivery(params)))
    refused = await quarantined(database)
    assert found["quarantined"] == len(refused)
    assert [row.payload["sku"] for row in refused] == (["S3"] if "source" in params else ["S1", "S2", "S3"])
    assert "nobody" not in (await stored(database, "note")).values()


@pytest.mark.only_on("sqlite", why="elsewhere references can be checked before COMMIT")
@pytest.mark.parametrize("params", REFERRING)
@pytest.mark.usefixtures("late_reference")
async def test_references_that_do_not_hold_at_commit_fail_the_run(
    make_runner: MakeRunner, database: Database, params: dict[str, object]
) -> None:
    """What nobody can find the row of fails the run once with the database's word, and nothing of its chunk is kept."""
    runner = make_runner()
    assert "FOREIGN KEY" in message(await runner.run(delivery(params)))
    assert (await runner.ledger.read("u")).attempts == 1
    assert set((await stored(database, "note")).values()) == {None}
    assert await quarantined(database) == []


@pytest.mark.usefixtures("ten_items")
async def test_a_row_that_needs_another_to_change_first(make_runner: MakeRunner, database: Database) -> None:
    """A row that takes the place which a later one leaves gets in once that one has moved."""
    given = inline({"sku": "S1", "slot": 2}, {"sku": "S2", "slot": 22})
    assert counts(await make_runner().run(update(source=given))) == {"read": 2, "updated": 2}
    found = await stored(database, "slot")
    assert (found["S1"], found["S2"]) == (2, 22)


@pytest.mark.parametrize(("quantity", "said"), [("many", "line 2: column 'quantity'"), (99, "small")])
@pytest.mark.usefixtures("ten_items")
async def test_on_invalid_fail_keeps_nothing_of_the_chunk(
    make_runner: MakeRunner, database: Database, quantity: object, said: str
) -> None:
    """With on_invalid="fail" the run ends with what validation, or the database, said of the first refused row."""
    await rebuild(database, ITEM, CheckConstraint("quantity < 50", name="small"))
    given = inline({"sku": "S1", "quantity": 11}, {"sku": "S2", "quantity": quantity})
    assert said in message(await make_runner().run(update(source=given, on_invalid="fail")))
    assert list((await stored(database)).values()) == list(range(10))


@pytest.mark.parametrize("length", [50, 60])
async def test_a_source_that_does_not_fit_is_stopped(make_runner: MakeRunner, database: Database, length: int) -> None:
    """More than half of at least fifty refused rows fail the run, in its last chunk too; what was committed stays."""
    await put(database, [{"sku": f"S{n}", "quantity": n} for n in range(60)])
    given: list[dict[str, object]] = [{"sku": f"S{n}", "quantity": "many" if n % 3 else 1000} for n in range(length)]
    runner = make_runner()
    said = message(await runner.run(update(source=inline(*given))))
    record = await runner.ledger.read("u")
    read = min(length, 52)
    refused = sum(1 for n in range(read) if n % 3)
    assert f"{refused} of {read} rows were refused" in said
    assert (record.done, record.counters["read"], record.counters["quarantined"]) == (read, read, refused)
    assert list((await stored(database)).values()).count(1000) == read - refused
    assert len(await quarantined(database)) == refused


STATEMENTS: dict[Backend, list[str]] = {
    "postgresql": ["SAVEPOINT", "WITH", "RELEASE", "UPDATE"],
    # a temporary table's rows: made, filled, counted, taken over, deleted
    "sqlite": ["SAVEPOINT", "CREATE", "INSERT", "SELECT", "UPDATE", "DELETE", "RELEASE", "UPDATE"],
    # the keys that are there, their locks, the change
    "mariadb": ["SAVEPOINT", "SELECT", "SELECT", "UPDATE", "RELEASE", "UPDATE"],
}


@pytest.mark.usefixtures("ten_items")
async def test_statements_of_a_chunk(make_runner: MakeRunner, backend: Backend) -> None:
    """A chunk is a few statements in a savepoint beside the cursor, however many rows it has."""
    runner = make_runner()
    given = inline(*({"sku": f"S{n}", "quantity": n + 1} for n in range(10)))
    with statements(runner.ledger.database) as seen:
        assert counts(await runner.run(update(source=given)))["updated"] == 10
    # the first one on a connection may ask the server for its limits
    first, *others = chunks(seen)
    assert others == [STATEMENTS[backend]] * 2
    assert len(first) <= len(STATEMENTS[backend]) + 1
