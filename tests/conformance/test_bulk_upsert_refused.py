"""Rows that the database refuses: found in savepoints, put aside with their reason, while the others are stored."""

from pathlib import Path

import pytest
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, String
from sqlalchemy.dialects.postgresql import CHAR

from tests.conftest import MakeRunner
from tests.support.chosen import Backend
from tests.support.items import ITEM, execute, in_chunks_of, inline, item, put, quarantined, stored, upsert
from tests.support.outcomes import counts
from tests.support.rebuild import rebuild
from tests.support.refusal_codes import CHECK
from tests.support.refusals import REFUSALS, Refusal
from tests.support.sent_statements import chunks, statements
from worker.core.outcomes import Failed
from worker.core.settings import Settings
from worker.database.engine import Database


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of eight rows, always."""
    return in_chunks_of(settings, 8)


@pytest.fixture
async def few(database: Database) -> None:
    """A constraint of the table of items: no quantity is 9 or more."""
    await rebuild(database, ITEM, CheckConstraint("quantity < 9", name="few"))


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_each_kind_of_refusal(
    make_runner: MakeRunner, database: Database, backend: Backend, refusal: Refusal
) -> None:
    """The refused row is put aside with its position, code, constraint and contents; its neighbours are stored."""
    await refusal.prepare(database, backend)
    rows = [item("A"), item("B", **refusal.bad), item("C"), item("D")]
    found = counts(await make_runner().run(upsert(inline(*rows))))
    assert found == {"read": 4, "inserted": 3, "quarantined": 1}
    assert (await stored(database)).keys() - {"Z"} == {"A", "C", "D"}
    (row,) = await quarantined(database)
    assert (row.position, row.chunk, row.sqlstate) == (2, 1, refusal.code[backend])
    assert row.constraint == refusal.constraint_on(backend)
    assert row.payload == rows[1]
    assert refusal.said[backend] in row.reason
    assert "\n" not in row.reason


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_on_invalid_fail_ends_with_the_databases_own_error(
    make_runner: MakeRunner, database: Database, backend: Backend, refusal: Refusal
) -> None:
    """With on_invalid="fail" the run fails once, with the original error, and its chunk leaves nothing."""
    await refusal.prepare(database, backend)
    runner = make_runner()
    outcome = await runner.run(upsert(inline(item("A"), item("B", **refusal.bad)), on_invalid="fail"))
    assert isinstance(outcome, Failed)
    assert refusal.said[backend] in outcome.error.message
    expected = (refusal.code[backend], refusal.constraint_on(backend))
    assert (outcome.error.sqlstate, outcome.error.constraint) == expected
    assert (await stored(database)).keys() <= {"Z"}
    assert (await runner.ledger.read("u")).attempts == 1


@pytest.mark.usefixtures("few")
async def test_faults_and_refusals_are_put_aside_together(
    make_runner: MakeRunner, database: Database, backend: Backend, tmp_path: Path
) -> None:
    """Of a file, unreadable, unfit and refused rows keep their lines and contents; a cell without text is null."""
    path = tmp_path / "items.csv"
    path.write_text("sku,name,quantity,price,note\nA,a,1,1,\nB,b,9,1,\nC,c\nD,d,x,1,\nE,e,9,1,é\n")
    assert counts(await make_runner().run(upsert({"uri": path.as_uri()}))) == {
        "read": 5,
        "inserted": 1,
        "quarantined": 4,
    }
    found = await quarantined(database)
    codes = [(row.position, row.sqlstate) for row in found]
    assert codes == [(3, CHECK[backend]), (4, None), (5, None), (6, CHECK[backend])]
    assert found[0].payload == {"sku": "B", "name": "b", "quantity": "9", "price": "1", "note": None}
    assert found[1].payload == {"raw": "C,c\n"}


@pytest.mark.usefixtures("few")
async def test_what_a_json_row_lacks_is_not_null(make_runner: MakeRunner, database: Database) -> None:
    """A refused object keeps its nulls, and lacks what it lacked."""
    rows = [item("A", quantity=9, note=None), item("B", quantity=9), item("C", note="x"), item("D")]
    assert counts(await make_runner().run(upsert(inline(*rows)))) == {"read": 4, "inserted": 2, "quarantined": 2}
    assert [row.payload for row in await quarantined(database)] == rows[:2]


@pytest.mark.usefixtures("few")
async def test_the_earlier_of_one_key_is_tried_where_the_later_is_refused(
    make_runner: MakeRunner, database: Database
) -> None:
    """Of three rows with one key the last that the database takes is stored, and the refused one put aside."""
    rows = [item("A", quantity=1), item("B"), item("A", quantity=2), item("A", quantity=9)]
    found = counts(await make_runner().run(upsert(inline(*rows))))
    # how the row with the same key counts depends on where the chunk was cut to find the refused one
    assert (found["read"], found["inserted"], found["quarantined"]) == (4, 2, 1)
    assert await stored(database) == {"A": 2, "B": 1}
    assert [row.position for row in await quarantined(database)] == [4]


async def test_a_refused_row_never_replaces_a_later_one(make_runner: MakeRunner, database: Database) -> None:
    """A row is tried again only where none of its key came after it: the last one counts, whatever became of others."""
    await put(database, [{"sku": "P", "shelf": 1, "slot": 1}])
    rows = [item("A", quantity=1, shelf=1, slot=1), item("Q"), item("P", shelf=2, slot=2), item("A", quantity=2)]
    assert counts(await make_runner().run(upsert(inline(*rows))))["read"] == 4
    assert (await stored(database))["A"] == 2


ONE_KEY: dict[Backend, tuple[String, str]] = {
    "postgresql": (CHAR(8), "A "),
    "sqlite": (String(40, collation="NOCASE"), "a"),
    "mariadb": (String(40), "a "),
}
"""A type of keys, and another way to write the key A: blanks at the end, or small letters, do not count."""


async def test_keys_that_only_the_database_takes_for_one(
    make_runner: MakeRunner, database: Database, backend: Backend
) -> None:
    """Which rows have one key is the database's to say."""
    type_, other = ONE_KEY[backend]
    await rebuild(database, ITEM, types={"sku": type_})
    await put(database, [{"sku": "P", "shelf": 1, "slot": 1}])
    rows = [item(other, quantity=1, shelf=1, slot=1), item("Q"), item("P", shelf=2, slot=2), item("A", quantity=2)]
    assert counts(await make_runner().run(upsert(inline(*rows))))["read"] == 4
    assert {key.strip().upper(): value for key, value in (await stored(database)).items()} == {"A": 2, "P": 1, "Q": 1}


async def test_a_row_that_needs_a_later_one_is_stored_beside_a_bad_one(
    make_runner: MakeRunner, database: Database
) -> None:
    """A child before its parent, and a place that a later row leaves, are good rows, whatever their neighbours are."""
    await rebuild(database, ITEM, ForeignKeyConstraint(["note"], ["item.sku"]), types={"note": String(40)})
    await put(database, [{"sku": "P", "shelf": 1, "slot": 1}, {"sku": "Q", "shelf": 1, "slot": 2}])
    rows = [
        item("A", note="X"),
        item("P", shelf=1, slot=2),
        item("B", note="missing"),
        item("Q", shelf=1, slot=3),
        item("X"),
    ]
    assert counts(await make_runner().run(upsert(inline(*rows)))) == {
        "read": 5,
        "inserted": 2,
        "updated": 2,
        "quarantined": 1,
    }
    assert await stored(database, "slot") == {"P": 2, "Q": 3, "A": None, "X": None}
    assert [row.position for row in await quarantined(database)] == [3]


async def test_counts_add_up_over_chunks(make_runner: MakeRunner, database: Database) -> None:
    """Refused, inserted, updated and unchanged rows in many chunks: every row is one of them."""
    await rebuild(database, ITEM, CheckConstraint("quantity % 7 <> 3"))
    before = [{"sku": f"S{n}", "name": f"s{n}", "quantity": n, "price": 1 if n < 20 else 2} for n in range(40)]
    await put(database, [row for n, row in enumerate(before) if n % 7 != 3])
    rows = [item(f"S{n}", quantity=n) for n in range(100)]
    bad = [n for n in range(100) if n % 7 == 3]
    updated = [n for n in range(20, 40) if n % 7 != 3]
    kept = [n for n in range(20) if n % 7 != 3]
    parts = {"updated": len(updated), "unchanged": len(kept), "quarantined": len(bad)}
    expected = {"read": 100, "inserted": 100 - sum(parts.values()), **parts}
    assert counts(await make_runner().run(upsert(inline(*rows)))) == expected
    assert [row.position - 1 for row in await quarantined(database)] == bad
    assert len(await stored(database)) == 100 - len(bad)


@pytest.mark.parametrize("rows", [56, 80])
async def test_mostly_refused_rows_end_the_run(make_runner: MakeRunner, database: Database, rows: int) -> None:
    """Past half of fifty the run fails; what its chunks had, the last one's quarantine included, is committed."""
    await rebuild(database, ITEM, CheckConstraint("quantity % 3 = 0"))
    # every third row is sound; of the others half does not even fit its column
    given = [item(f"S{n}", quantity="x" if n % 3 == 1 else n) for n in range(rows)]
    runner = make_runner()
    outcome = await runner.run(upsert(inline(*given)))
    assert isinstance(outcome, Failed)
    assert outcome.error.type == "TooManyRefusedError"
    record = await runner.ledger.read("u")
    assert (record.status, record.attempts, record.done) == ("failed", 1, 56)
    assert record.counters == {
        "read": 56,
        "inserted": 19,
        "updated": 0,
        "unchanged": 0,
        "duplicates": 0,
        "quarantined": 37,
    }
    assert len(await stored(database)) == 19
    assert [row.position - 1 for row in await quarantined(database)] == [n for n in range(56) if n % 3]


STATEMENTS: dict[Backend, list[str]] = {
    "postgresql": ["WITH"],
    # a temporary table's rows: made, filled, counted, taken over, deleted
    "sqlite": ["CREATE", "INSERT", "SELECT", "INSERT", "DELETE"],
    # the keys that are there, and counts by variables of the session
    "mariadb": ["SELECT", "SET", "INSERT", "SELECT"],
}


async def test_a_good_chunk_costs_a_savepoint_and_no_more(make_runner: MakeRunner, backend: Backend) -> None:
    """The statements of a chunk without refusals: savepoint, upsert, release, progress, however many rows it has."""
    runner = make_runner()
    with statements(runner.ledger.database) as seen:
        found = counts(await runner.run(upsert(inline(*(item(f"S{n}") for n in range(20))))))
    assert found == {"read": 20, "inserted": 20}
    expected = ["SAVEPOINT", *STATEMENTS[backend], "RELEASE", "UPDATE"]
    # the first one may ask for a table's triggers and a server's limits
    first, *others = chunks(seen)
    assert others == [expected] * 2
    assert len(first) <= len(expected) + 2


DEADLOCK: dict[Backend, list[str]] = {
    "postgresql": [
        (
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF nextval('tries') = 3 THEN RAISE SQLSTATE '40P01'; END IF; RETURN NEW; END $$"
        ),
        "CREATE TRIGGER refuse BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION refuse()",
    ],
    "mariadb": [
        (
            "CREATE TRIGGER refuse BEFORE INSERT ON item FOR EACH ROW "
            "IF nextval(tries) = 3 THEN SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213; END IF"
        )
    ],
}
"""A trigger that ends the third row's insert as the victim of a deadlock would be."""


@pytest.mark.only_on("postgresql", "mariadb", why="nothing in a transaction of SQLite's one writer waits for others")
async def test_a_transient_error_within_a_savepoint_is_no_refusal(
    make_runner: MakeRunner, database: Database, backend: Backend
) -> None:
    """A deadlock or a timeout says nothing of any row: the chunk is done again, whole."""
    # a sequence counts on where a transaction is rolled back
    await execute(database, "CREATE SEQUENCE tries", *DEADLOCK[backend])
    rows = [item(f"S{n}") for n in range(6)]
    assert counts(await make_runner().run(upsert(inline(*rows)))) == {"read": 6, "inserted": 6}
    assert await quarantined(database) == []
