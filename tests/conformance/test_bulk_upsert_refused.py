"""Rows that the database refuses: found in savepoints, put aside with their reason, while the others are stored."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event, text

from tests.conftest import MakeRunner
from worker.core.outcomes import Failed, Outcome, Succeeded
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database
from worker.database.quarantine import QuarantinedRow, read_quarantine

Execute = Callable[..., Awaitable[None]]
Row = dict[str, object]

TRIGGER = "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON item FOR EACH ROW EXECUTE FUNCTION refuse()"
LATE = "DEFERRABLE INITIALLY DEFERRED"


def refuse(condition: str, action: str) -> str:
    """The statement that makes a trigger's function, which does something where a condition holds."""
    return (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN IF {condition} THEN {action}; END IF; RETURN NEW; END $$"
    )


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of eight rows, always."""
    return settings.model_copy(update={"chunk_start_rows": 8, "chunk_min_rows": 8, "chunk_max_rows": 8})


@pytest.fixture
def execute(database: Database) -> Execute:
    """Runs statements and commits."""

    async def run(*statements: str) -> None:
        async with database.engine.begin() as connection:
            for statement in statements:
                await connection.exec_driver_sql(statement)

    return run


def item(sku: str, **values: object) -> Row:
    """A sound row."""
    return {"sku": sku, "name": sku.lower(), "quantity": 1, "price": "1.00", **values}


def upsert(*rows: Row, run_id: str = "u", **params: object) -> Delivery:
    """A delivery of inline items."""
    given = {"table": "item", "source": {"rows": list(rows)}, **params}
    return Delivery(run_id, "bulk_upsert", given, {}, "arq:queue", 1)


def counts(outcome: Outcome) -> tuple[int, ...]:
    """Inserted, updated, unchanged, duplicates and quarantined of a run that succeeded; they must add up."""
    assert isinstance(outcome, Succeeded), outcome
    assert isinstance(outcome.result, dict)
    read, *parts = outcome.result.values()
    assert read == sum(parts)
    return tuple(parts)


async def stored(database: Database, column: str = "quantity") -> dict[str, object]:
    """One column of the table."""
    async with database.engine.connect() as connection:
        rows = await connection.execute(text(f"SELECT sku, {column} FROM item"))
        return {str(row[0]): row[1] for row in rows}


async def quarantined(database: Database, run_id: str = "u") -> list[QuarantinedRow]:
    """What was put aside."""
    async with database.engine.connect() as connection:
        return await read_quarantine(connection, run_id, limit=1000)


ANY_KIND = [
    (
        ["INSERT INTO item VALUES ('Z', 'z', 1, 1, NULL, 1, 2)"],
        {"shelf": 1, "slot": 2},
        "23505",
        "item_place_key",
    ),
    (["ALTER TABLE item ADD CONSTRAINT few CHECK (quantity < 9)"], {"quantity": 9}, "23514", "few"),
    (["ALTER TABLE item ADD CONSTRAINT kin FOREIGN KEY (note) REFERENCES item"], {"note": "?"}, "23503", "kin"),
    ([refuse("NEW.quantity = 9", "NEW.name := NULL"), TRIGGER], {"quantity": 9}, "23502", None),
    ([refuse("NEW.quantity = 9", "RAISE 'too many'"), TRIGGER], {"quantity": 9}, "P0001", None),
    (
        ["ALTER TABLE item ADD far smallint GENERATED ALWAYS AS (quantity * 9) STORED"],
        {"quantity": 9999},
        "22003",
        None,
    ),
    (["ALTER TABLE item ADD CHECK (convert_to(name, 'LATIN1') IS NOT NULL)"], {"name": "\u20ac"}, "22P05", None),
    (["ALTER TABLE item ALTER note TYPE inet USING NULL"], {"note": "10.0.0.999"}, "22000", None),
    (["ALTER TABLE item ALTER note TYPE jsonb USING NULL"], {"note": "{"}, "22P02", None),
    # what is checked at COMMIT only, where no row could be told from its neighbours any more
    ([f"ALTER TABLE item ADD CONSTRAINT kin FOREIGN KEY (note) REFERENCES item {LATE}"], {"note": "?"}, "23503", "kin"),
    (
        [
            f"ALTER TABLE item ADD CONSTRAINT alone UNIQUE (note) {LATE}",
            "INSERT INTO item VALUES ('Z', 'z', 1, 1, 'z')",
        ],
        {"note": "z"},
        "23505",
        "alone",
    ),
    (
        [
            refuse("NEW.quantity = 9", "RAISE 'too many'"),
            f"CREATE CONSTRAINT TRIGGER late AFTER INSERT ON item {LATE} FOR EACH ROW EXECUTE FUNCTION refuse()",
        ],
        {"quantity": 9},
        "P0001",
        None,
    ),
]


@pytest.mark.parametrize(("prepare", "bad", "sqlstate", "constraint"), ANY_KIND)
async def test_each_kind_of_refusal(
    make_runner: MakeRunner,
    execute: Execute,
    database: Database,
    prepare: list[str],
    bad: Row,
    sqlstate: str,
    constraint: str | None,
) -> None:
    """The refused row is put aside with its position, code, constraint and contents; its neighbours are stored."""
    await execute(*prepare)
    rows = [item("A"), item("B", **bad), item("C"), item("D")]
    assert counts(await make_runner().run(upsert(*rows))) == (3, 0, 0, 0, 1)
    assert (await stored(database)).keys() - {"Z"} == {"A", "C", "D"}
    (found,) = await quarantined(database)
    assert (found.position, found.chunk, found.sqlstate, found.constraint) == (2, 1, sqlstate, constraint)
    assert found.payload == rows[1]
    assert found.reason
    assert "\n" not in found.reason


@pytest.mark.parametrize(("prepare", "bad", "sqlstate", "constraint"), ANY_KIND)
async def test_on_invalid_fail_ends_with_the_databases_own_error(
    make_runner: MakeRunner,
    execute: Execute,
    database: Database,
    prepare: list[str],
    bad: Row,
    sqlstate: str,
    constraint: str | None,
) -> None:
    """With on_invalid="fail" the run fails once, with the original error, and its chunk leaves nothing."""
    await execute(*prepare)
    runner = make_runner()
    outcome = await runner.run(upsert(item("A"), item("B", **bad), on_invalid="fail"))
    assert isinstance(outcome, Failed)
    assert (outcome.error.sqlstate, outcome.error.constraint) == (sqlstate, constraint)
    assert (await stored(database)).keys() <= {"Z"}
    assert (await runner.ledger.read("u")).attempts == 1


async def test_faults_and_refusals_are_put_aside_together(
    make_runner: MakeRunner, execute: Execute, database: Database, tmp_path: Path
) -> None:
    """Of a file, unreadable, unfit and refused rows keep their lines and contents; a cell without text is null."""
    await execute("ALTER TABLE item ADD CONSTRAINT few CHECK (quantity < 9)")
    path = tmp_path / "items.csv"
    path.write_text("sku,name,quantity,price,note\nA,a,1,1,\nB,b,9,1,\nC,c\nD,d,x,1,\nE,e,9,1,é\n")
    delivery = replace(upsert(), params={"table": "item", "source": {"uri": path.as_uri()}})
    assert counts(await make_runner().run(delivery)) == (1, 0, 0, 0, 4)
    found = await quarantined(database)
    assert [(row.position, row.sqlstate) for row in found] == [(3, "23514"), (4, None), (5, None), (6, "23514")]
    assert found[0].payload == {"sku": "B", "name": "b", "quantity": "9", "price": "1", "note": None}
    assert found[1].payload == {"raw": "C,c\n"}


async def test_what_a_json_row_lacks_is_not_null(make_runner: MakeRunner, execute: Execute, database: Database) -> None:
    """A refused object keeps its nulls, and lacks what it lacked."""
    await execute("ALTER TABLE item ADD CONSTRAINT few CHECK (quantity < 9)")
    rows = [item("A", quantity=9, note=None), item("B", quantity=9), item("C", note="x"), item("D")]
    assert counts(await make_runner().run(upsert(*rows))) == (2, 0, 0, 0, 2)
    assert [row.payload for row in await quarantined(database)] == rows[:2]


async def test_the_earlier_of_one_key_is_tried_where_the_later_is_refused(
    make_runner: MakeRunner, execute: Execute, database: Database
) -> None:
    """Of three rows with one key the last that the database takes is stored, and the refused one put aside."""
    await execute("ALTER TABLE item ADD CHECK (quantity < 9)")
    rows = [item("A", quantity=1), item("B"), item("A", quantity=2), item("A", quantity=9)]
    inserted, updated, unchanged, duplicates, put_aside = counts(await make_runner().run(upsert(*rows)))
    assert (inserted, updated + unchanged + duplicates, put_aside) == (2, 1, 1)
    assert await stored(database) == {"A": 2, "B": 1}
    assert [row.position for row in await quarantined(database)] == [4]


async def test_a_refused_row_never_replaces_a_later_one(
    make_runner: MakeRunner, execute: Execute, database: Database
) -> None:
    """A row is tried again only where none of its key came after it: the last one counts, whatever became of others."""
    await execute("INSERT INTO item VALUES ('P', 'p', 1, 1, NULL, 1, 1)")
    rows = [item("A", quantity=1, shelf=1, slot=1), item("Q"), item("P", shelf=2, slot=2), item("A", quantity=2)]
    assert sum(counts(await make_runner().run(upsert(*rows)))) == 4
    assert (await stored(database))["A"] == 2


async def test_keys_that_only_the_database_takes_for_one(
    make_runner: MakeRunner, execute: Execute, database: Database
) -> None:
    """Which rows have one key is the database's to say: here blanks at the end do not count."""
    await execute(
        "ALTER TABLE item ALTER sku TYPE char(8)",
        "INSERT INTO item VALUES ('P', 'p', 1, 1, NULL, 1, 1)",
    )
    rows = [item("A ", quantity=1, shelf=1, slot=1), item("Q"), item("P", shelf=2, slot=2), item("A", quantity=2)]
    assert sum(counts(await make_runner().run(upsert(*rows)))) == 4
    assert {key.strip(): value for key, value in (await stored(database)).items()} == {"A": 2, "P": 1, "Q": 1}


async def test_a_row_that_needs_a_later_one_is_stored_beside_a_bad_one(
    make_runner: MakeRunner, execute: Execute, database: Database
) -> None:
    """A child before its parent, and a place that a later row leaves, are good rows, whatever their neighbours are."""
    await execute(
        "ALTER TABLE item ADD CONSTRAINT kin FOREIGN KEY (note) REFERENCES item",
        "INSERT INTO item VALUES ('P', 'p', 1, 1, NULL, 1, 1), ('Q', 'q', 1, 1, NULL, 1, 2)",
    )
    rows = [
        item("A", note="X"),
        item("P", shelf=1, slot=2),
        item("B", note="missing"),
        item("Q", shelf=1, slot=3),
        item("X"),
    ]
    assert counts(await make_runner().run(upsert(*rows))) == (2, 2, 0, 0, 1)
    assert await stored(database, "slot") == {"P": 2, "Q": 3, "A": None, "X": None}
    assert [row.position for row in await quarantined(database)] == [3]


async def test_counts_add_up_over_chunks(make_runner: MakeRunner, execute: Execute, database: Database) -> None:
    """Refused, inserted, updated and unchanged rows in many chunks: every row is one of them."""
    await execute(
        "ALTER TABLE item ADD CHECK (quantity % 7 <> 3)",
        "INSERT INTO item SELECT 'S' || n, 's' || n, n, CASE WHEN n < 20 THEN 1 ELSE 2 END "
        "FROM generate_series(0, 39) AS n WHERE n % 7 <> 3",
    )
    rows = [item(f"S{n}", quantity=n) for n in range(100)]
    bad = [n for n in range(100) if n % 7 == 3]
    updated = [n for n in range(20, 40) if n % 7 != 3]
    kept = [n for n in range(20) if n % 7 != 3]
    expected = (100 - len(bad) - len(updated) - len(kept), len(updated), len(kept), 0, len(bad))
    assert counts(await make_runner().run(upsert(*rows))) == expected
    assert [row.position - 1 for row in await quarantined(database)] == bad
    assert len(await stored(database)) == 100 - len(bad)


@pytest.mark.parametrize("rows", [56, 80])
async def test_mostly_refused_rows_end_the_run(
    make_runner: MakeRunner, execute: Execute, database: Database, rows: int
) -> None:
    """Past half of fifty the run fails; what its chunks had, the last one's quarantine included, is committed."""
    await execute("ALTER TABLE item ADD CHECK (quantity % 3 = 0)")
    # every third row is sound; of the others half does not even fit its column
    given = [item(f"S{n}", quantity="x" if n % 3 == 1 else n) for n in range(rows)]
    runner = make_runner()
    outcome = await runner.run(upsert(*given))
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


async def test_a_good_chunk_costs_a_savepoint_and_no_more(make_runner: MakeRunner) -> None:
    """The statements of a chunk without refusals: savepoint, upsert, release, progress."""
    runner = make_runner()
    transactions: dict[object, list[str]] = {}

    def see(connection: object, _cursor: object, statement: str, *_: object) -> None:
        # each transaction has a connection object of its own, of this process
        transactions.setdefault(connection, []).append(" ".join(statement.split())[:21])

    event.listen(runner.ledger.database.engine.sync_engine, "before_cursor_execute", see)
    assert counts(await runner.run(upsert(*(item(f"S{n}") for n in range(24))))) == (24, 0, 0, 0, 0)
    chunks = [sent for sent in transactions.values() if any("heavylift_latest" in part for part in sent)]
    good = [
        "SAVEPOINT sa_savepoin",
        "WITH heavylift_latest",
        "RELEASE SAVEPOINT sa_",
        "UPDATE heavylift_prog",
    ]
    assert chunks[:2] == [good, good]
    assert chunks[2][:-1] == good


async def test_a_transient_error_within_a_savepoint_is_no_refusal(
    make_runner: MakeRunner, execute: Execute, database: Database
) -> None:
    """A deadlock or a timeout says nothing of any row: the chunk is done again, whole."""
    await execute(
        "CREATE SEQUENCE tries",
        refuse("nextval('tries') = 3", "RAISE SQLSTATE '40P01'"),
        TRIGGER,
    )
    rows = [item(f"S{n}") for n in range(6)]
    assert counts(await make_runner().run(upsert(*rows))) == (6, 0, 0, 0, 0)
    assert await quarantined(database) == []
