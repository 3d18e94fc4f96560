"""The ledger in an SQLite file: its schema, its guards, and who may commit."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, insert, select, text
from sqlalchemy.exc import IntegrityError

from tests.support.sqlite_files import sqlite_database, sqlite_settings
from worker.core.errors import ConflictError, LedgerVersionError, StaleFenceError
from worker.core.outcomes import ErrorRecord, Failed, Interrupted, RetryAt, Status, Succeeded
from worker.core.progress import Progress
from worker.core.settings import Settings
from worker.database.claims import Claimed, Delivery, NotClaimable, PutAside, Terms
from worker.database.engine import Database
from worker.database.ledger import Ledger
from worker.database.migrate import check_version, migrate, newest
from worker.database.session import carry_out
from worker.database.snapshot import open_snapshot
from worker.database.tables import METADATA, MOVES, RUNS
from worker.database.transfer_tables import ENTRIES, REFUSALS, TRANSFERS

ASKED = Delivery("r", "job", {"name": "Zoë \x00", "n": 1}, {}, "arq:queue", 1_700_000_000_123)
OOPS = ErrorRecord("Oops", "it broke", "5", "")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose database is a file of the test's own."""
    return sqlite_settings(tmp_path / "app.db")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A file with a ledger."""
    async with sqlite_database(tmp_path / "app.db") as database:
        await migrate(database)
        yield database


@pytest.fixture
def ledger(database: Database, settings: Settings) -> Ledger:
    """The ledger of one worker."""
    return Ledger(database, settings, "worker")


async def claimed(ledger: Ledger, delivery: Delivery = ASKED) -> Claimed:
    """A claim that is to be had."""
    (claim,) = await ledger.claim([delivery])
    assert isinstance(claim, Claimed)
    return claim


async def advanced(ledger: Ledger, settings: Settings, claim: Claimed, progress: Progress) -> bool:
    """Whether a chunk could be committed."""
    advance = partial(ledger.database.dialect.advance, fence=claim.fence, progress=progress)
    return await carry_out(ledger.database, settings, advance) is not None


async def test_the_migrated_schema_is_the_declared_one(database: Database) -> None:
    """Alembic finds no difference between the ledger's tables and their declaration."""

    def differences(connection: Connection) -> object:
        options = {"version_table": "heavylift_version", "compare_server_default": False}
        return compare_metadata(MigrationContext.configure(connection, opts=options), METADATA)

    async with database.reading() as connection:
        assert await connection.run_sync(differences) == []


async def test_many_at_once_migrate_once(tmp_path: Path) -> None:
    """Several commands at the same moment on a file that is not there yet all end well, with one ledger."""
    files = [sqlite_database(tmp_path / "new.db", lock_timeout_ms=10_000) for _ in range(3)]
    async with files[0] as one, files[1] as two, files[2] as three:
        with pytest.raises(LedgerVersionError, match="heavylift migrate"):
            await check_version(one)
        results = await asyncio.gather(*(migrate(database) for database in (one, one, two, three)))
        assert sorted(results, key=str) == [*[(newest(), newest())] * 3, (None, newest())]
        await check_version(two)


async def test_a_migration_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """DDL is rolled back with the rest: a table in the way of the last migration undoes those before it."""
    async with sqlite_database(tmp_path / "new.db") as database:
        async with database.engine.begin() as connection:
            await connection.execute(text("CREATE TABLE heavylift_transfers (id INTEGER PRIMARY KEY)"))
        with pytest.raises(Exception, match="already exists"):
            await migrate(database)
        async with database.reading() as connection:
            tables = await connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'"))
            assert list(tables.scalars()) == ["heavylift_transfers"]


async def test_enqueued_runs_are_read_as_they_were_sent(ledger: Ledger) -> None:
    """Parameters come back exactly, moments to the millisecond; the same id with other parameters is a conflict."""
    due = datetime.now(UTC) + timedelta(hours=1)
    terms = Terms(due_at=due, enqueued_by="me")
    made = await ledger.enqueue([[ASKED]], terms)
    assert await ledger.enqueue([[ASKED]], terms) == made
    record = await ledger.read("r")
    assert record == made["r"]
    assert record.params == ASKED.params
    assert record.enqueued_at == datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)
    async with ledger.database.reading() as connection:
        assert (await connection.execute(select(RUNS.c.due_at))).scalar_one() == due
    other = Delivery("r", "job", {}, {}, "arq:queue", 1)
    with pytest.raises(ConflictError):
        await ledger.enqueue([[other]], terms)


async def test_ids_are_compared_byte_by_byte(ledger: Ledger) -> None:
    """Ids that differ in a letter's size, or in a space at the end, are different runs; claims come in their order."""
    ids = ["é", "a", "A", "a ", "B"]
    deliveries = [Delivery(run_id, "job", {}, {}, "arq:queue", 1) for run_id in ids]
    claims = await ledger.claim(deliveries)
    found = [claim.fence.run_id for claim in claims if isinstance(claim, Claimed)]
    assert found == sorted(ids, key=str.encode)


async def test_only_the_newest_claim_commits(ledger: Ledger, settings: Settings) -> None:
    """A stale fence moves nothing, tells nothing and ends nothing; the newer one does."""
    stale, valid = await claimed(ledger), await claimed(ledger)
    assert (stale.fence.number, valid.fence.number, valid.crashes) == (1, 2, 1)
    one = Progress(1, 2, {"read": 1}, {"id": 1}, 0, 10)
    assert not await advanced(ledger, settings, stale, one)
    with pytest.raises(StaleFenceError):
        await ledger.tell(stale.fence, Status.WAITING, "for nothing")
    assert not await ledger.end(stale, Succeeded(1))
    assert await advanced(ledger, settings, valid, one)
    assert not await advanced(ledger, settings, valid, one), "a chunk is committed from the number it started at"
    record = await ledger.read("r")
    assert (record.done, record.total, record.counters, record.cursor) == (1, 2, {"read": 1}, {"id": 1})


async def test_crashes_are_counted_until_a_chunk_commits(ledger: Ledger, settings: Settings) -> None:
    """A claim that finds the one before it open follows a crash; a committed chunk ends the streak."""
    await claimed(ledger)
    third = [await claimed(ledger) for _ in range(2)][1]
    assert (third.crashes, third.crash_streak) == (2, 2)
    assert await advanced(ledger, settings, third, Progress(1, None, {}, {"id": 1}, 0, 1))
    fourth = await claimed(ledger)
    assert (fourth.crashes, fourth.crash_streak, fourth.progress.chunk) == (3, 0, 1)
    assert await ledger.end(fourth, Interrupted())
    fifth = await claimed(ledger)
    assert (fifth.crashes, fifth.crash_streak) == (3, 0)


async def test_a_hold_is_told_once_it_is_over(ledger: Ledger) -> None:
    """What a run waits for is shown while it does, with what a person asked for meanwhile."""
    claim = await claimed(ledger)
    assert await ledger.tell(claim.fence, Status.WAITING, "the governor") is None
    assert (await ledger.read("r")).waiting_for == "the governor"
    await ledger.ask_for("r", "pause")
    assert await ledger.tell(claim.fence, Status.RUNNING, None) == "pause"
    record = await ledger.read("r")
    assert (record.status, record.waiting_for) == (Status.RUNNING, None)


async def test_a_doubtful_transaction_is_settled_by_a_claim(ledger: Ledger) -> None:
    """The run is claimed again under a new fence; if it had ended, as what it ended."""
    claim = await claimed(ledger)
    await ledger.tell(claim.fence, Status.WAITING, "the governor")
    again = await ledger.settle(claim)
    assert isinstance(again, Claimed)
    assert (again.fence.number, again.crashes, again.claimed_at) == (2, 0, claim.claimed_at)
    assert (await ledger.read("r")).status is Status.RUNNING
    with pytest.raises(StaleFenceError):
        await ledger.settle(claim)
    assert await ledger.end(again, Succeeded({"n": 1}))
    ended = await ledger.settle(again)
    assert isinstance(ended, NotClaimable)
    assert (ended.status, ended.result) == (Status.SUCCEEDED, {"n": 1})


async def test_outcomes_are_written_down(ledger: Ledger) -> None:
    """Attempts, failures, errors and moments, as each outcome has them; a finished run is not claimed again."""
    when = datetime.now(UTC) + timedelta(seconds=9)
    assert await ledger.end(await claimed(ledger), RetryAt(when, OOPS))
    record = await ledger.read("r")
    assert (record.status, record.attempts, record.finished_at) == (Status.WAITING, 1, None)
    assert record.waiting_for is not None
    assert record.waiting_for.endswith("after Oops: it broke")
    second = await claimed(ledger)
    assert (second.failures, second.attempts) == (1, 1)
    assert await ledger.end(second, Failed(OOPS))
    record = await ledger.read("r")
    assert record.error is not None
    assert (record.status, record.error.message, record.attempts) == (Status.FAILED, "it broke", 2)
    assert record.finished_at is not None
    assert record.started_at is not None
    assert record.started_at <= record.finished_at <= datetime.now(UTC)
    (found,) = await ledger.claim([ASKED])
    assert isinstance(found, NotClaimable)


async def test_an_id_that_is_used_again_keeps_the_old_run(ledger: Ledger) -> None:
    """A later delivery of a finished id is a new run; the old one goes on under a name with a number."""
    for number in range(3):
        delivery = Delivery("r", "job", {"n": number}, {}, "arq:queue", number)
        assert await ledger.end(await claimed(ledger, delivery), Succeeded(number))
    assert [(await ledger.read(run_id)).result for run_id in ("r~1", "r~2", "r")] == [0, 1, 2]
    async with ledger.database.reading() as connection:
        attempts = await connection.execute(text("SELECT run_id FROM heavylift_attempts ORDER BY run_id"))
        assert list(attempts.scalars()) == ["r", "r~1", "r~2"]


async def test_runs_that_cannot_begin_are_shown_as_waiting(ledger: Ledger, settings: Settings) -> None:
    """They are made or updated, unless they are over, or the word comes too late."""
    database = ledger.database
    done = Delivery("done", "job", {}, {}, "arq:queue", 1)
    assert await ledger.end(await claimed(ledger, done), Succeeded(None))
    asides = [PutAside(ASKED, "its job is not known"), PutAside(done, "its job is not known")]
    later = datetime.now(UTC) + timedelta(minutes=1)
    put = partial(database.dialect.put_aside, asides=asides)
    assert await carry_out(database, settings, partial(put, due_at=later)) == {"r"}
    waiting_for = (await ledger.read("r")).waiting_for
    assert waiting_for is not None
    assert waiting_for.startswith("its job is not known; tried again at ")
    assert await carry_out(database, settings, partial(put, due_at=datetime(2020, 1, 1, tzinfo=UTC))) == set()


HEADER: dict[str, object] = {
    "idempotency_key": "k",
    "request_hash": "h",
    "accounts_table": "account",
    "money_column": "balance",
    "from_account": "a",
    "to_account": "b",
    "amount": Decimal("12.50"),
    "reason": "",
    "actor": "me",
    "run_id": "r",
}
ENTRY: dict[str, object] = {
    "accounts_table": "account",
    "money_column": "balance",
    "account": "a",
    "version": 2,
    "idempotency_key": "k",
    "kind": "debit",
    "amount": Decimal("-12.5"),
    "balance_before": Decimal(100),
    "balance_after": Decimal("87.5"),
}
CREDIT = {**ENTRY, "account": "b", "kind": "credit", "amount": Decimal("12.5"), "balance_after": Decimal("112.5")}


async def test_amounts_come_back_exactly(database: Database) -> None:
    """As many digits as the books hold, and no float in between."""
    large = Decimal("999999999999999999.123456789012345678")
    async with database.engine.begin() as connection:
        await connection.execute(insert(TRANSFERS).values({**HEADER, "amount": large}))
    async with database.reading() as connection:
        row = (await connection.execute(select(TRANSFERS.c.amount, TRANSFERS.c.created_at))).one()
    assert row.amount == large
    assert abs(datetime.now(UTC) - row.created_at) < timedelta(minutes=1)


REFUSED_ENTRIES: dict[str, dict[str, object]] = {
    "a balance that is not the sum": {"balance_after": Decimal("87.4")},
    "a balance that is off by the last digit": {"balance_after": Decimal("87.500000000000000001")},
    "an opening of something": {"kind": "opening", "version": 1},
    "a debit that adds": {"amount": Decimal("12.5"), "balance_after": Decimal("112.5")},
    "a debit below zero": {"balance_before": Decimal(1), "balance_after": Decimal("-11.5")},
    "no number": {"amount": Decimal("NaN"), "balance_before": Decimal("NaN"), "balance_after": Decimal("NaN")},
    "no entry's kind": {"kind": "gift"},
    "no transfer": {"idempotency_key": "unknown"},
}


@pytest.mark.parametrize("name", REFUSED_ENTRIES)
async def test_the_file_itself_refuses_wrong_entries(database: Database, name: str) -> None:
    """Checks are SQLite's own and exact: they hold for every program that writes to the file."""
    async with database.engine.begin() as connection:
        await connection.execute(insert(TRANSFERS).values(HEADER))
    with pytest.raises(IntegrityError):
        async with database.engine.begin() as connection:
            await connection.execute(insert(ENTRIES).values({**ENTRY, **REFUSED_ENTRIES[name]}))


@pytest.mark.parametrize("amount", ["0", "-1", "NaN", "Infinity", "1e5", "1.50", "01", "", "1.0000000000000000001"])
async def test_the_file_itself_refuses_wrong_amounts(database: Database, amount: str) -> None:
    """An amount is positive, of at most 18 digits before and after the point, and written in one way."""
    names = ", ".join(HEADER)
    values = {**HEADER, "amount": amount}
    with pytest.raises(IntegrityError):
        async with database.engine.begin() as connection:
            await connection.execute(
                text(f"INSERT INTO heavylift_transfers ({names}) VALUES (:{', :'.join(HEADER)})"),
                values,
            )


EDITS = (
    "UPDATE heavylift_entries SET amount = amount WHERE kind = 'debit'",
    "DELETE FROM heavylift_entries",
    "INSERT OR REPLACE INTO heavylift_entries SELECT * FROM heavylift_entries",
    "UPDATE heavylift_transfers SET reason = 'x'",
    "DELETE FROM heavylift_transfers",
    "DELETE FROM heavylift_refusals",
    "UPDATE heavylift_moves SET reason = 'x'",
    "DELETE FROM heavylift_moves",
    "INSERT OR REPLACE INTO heavylift_moves SELECT * FROM heavylift_moves",
)


@pytest.fixture
async def booked(database: Database) -> Database:
    """Books with a transfer and a refusal, and a trail with a move."""
    refused = {**HEADER, "idempotency_key": "refused"}
    move = {"run_id": "r", "table_name": "t", "row_key": {}, "column_name": "c", "reason": "", "actor": "me"}
    async with database.engine.begin() as connection:
        await connection.execute(insert(TRANSFERS), [HEADER, refused])
        await connection.execute(insert(ENTRIES), [ENTRY, CREDIT])
        await connection.execute(insert(REFUSALS).values(idempotency_key="refused", code="c", message="m"))
        await connection.execute(insert(MOVES).values(move))
    return database


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.usefixtures("booked")
def test_every_program_is_refused_edits_of_the_books(tmp_path: Path, edit: str) -> None:
    """Whoever opens the file with SQLite's own tools can add to the books and the trail, and change nothing."""
    other = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
    with pytest.raises(sqlite3.IntegrityError, match="only ever added to"):
        other.execute(edit)
    assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    other.close()


async def test_a_header_whose_key_is_taken_is_passed_over(booked: Database) -> None:
    """Neither a second header of a key nor one that replaces it changes what was asked for."""
    for prefix in ("INSERT OR REPLACE", "INSERT"):
        async with booked.engine.begin() as connection:
            await connection.execute(
                text(
                    f"{prefix} INTO heavylift_transfers SELECT idempotency_key, request_hash, accounts_table, "
                    "money_column, from_account, to_account, amount, 'other', actor, run_id, created_at "
                    "FROM heavylift_transfers"
                )
            )
    async with booked.reading() as connection:
        assert set((await connection.execute(select(TRANSFERS.c.reason))).scalars()) == {""}


async def test_entries_that_do_not_cancel_out_are_refused(database: Database) -> None:
    """The second entry of a transfer undoes the first to the last digit."""
    async with database.engine.begin() as connection:
        await connection.execute(insert(TRANSFERS).values(HEADER))
    wrong = {**CREDIT, "amount": Decimal("12.51"), "balance_after": Decimal("112.51")}
    with pytest.raises(IntegrityError, match="cancel out"):
        async with database.engine.begin() as connection:
            await connection.execute(insert(ENTRIES), [ENTRY, wrong])


async def test_a_guard_that_is_gone_is_missed(database: Database) -> None:
    """The verifier's question finds a trigger that was dropped, and one that was made anew to say nothing."""
    async with database.engine.begin() as connection:
        assert await database.dialect.missing_guards(connection) == []
        await connection.exec_driver_sql("DROP TRIGGER heavylift_entries_no_update")
        await connection.exec_driver_sql("DROP TRIGGER heavylift_refusals_no_delete")
        await connection.exec_driver_sql(
            "CREATE TRIGGER heavylift_refusals_no_delete BEFORE DELETE ON heavylift_refusals BEGIN SELECT 1; END"
        )
        missing = await database.dialect.missing_guards(connection)
    assert missing == [
        "trigger heavylift_entries_no_update of heavylift_entries is gone",
        "trigger heavylift_refusals_no_delete of heavylift_refusals is another one than heavylift made",
    ]


async def test_a_stream_reads_one_moment_while_others_write(database: Database, settings: Settings) -> None:
    """Rows are fetched some at a time, and what is committed meanwhile is not among them."""
    filled = text(
        "INSERT INTO number WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000) SELECT i FROM n"
    )
    async with database.engine.begin() as connection:
        await connection.execute(text("CREATE TABLE number (id INTEGER PRIMARY KEY)"))
        await connection.execute(filled)
    statement = text("SELECT id FROM number ORDER BY id")
    seen: list[int] = []
    async with open_snapshot(database, settings) as snapshot:
        while rows := await snapshot.fetch(statement, 300):  # type: ignore[arg-type]  # a text is selected as well
            seen += [row[0] for row in rows]
            async with database.engine.begin() as connection:
                await connection.execute(text("DELETE FROM number WHERE id > :last"), {"last": seen[-1]})
    assert seen == list(range(1, 5001))
