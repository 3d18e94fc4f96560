"""The guard of the books, and the check that finds whatever was done to them behind its back."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

import pytest
from sqlalchemy.exc import DBAPIError

from tests.conftest import MakeRunner
from tests.support.bank import bank_tables, banker, batch, broken, open_bank, row
from tests.support.chosen import Backend
from tests.support.own_session import Statement, execute
from tests.support.tampering import BOOKS, tamper
from worker.core.errors import ErrorKind
from worker.database.classify import classify
from worker.database.engine import Database
from worker.database.transfer_check import SHOWN, check_books
from worker.declare.tables import find_tables

COLUMNS: Final = "request_hash, accounts_table, money_column, from_account, to_account, amount, reason, actor, run_id"
HEADER: Final = (
    f"INSERT INTO heavylift_transfers ({COLUMNS}, idempotency_key) "
    f"SELECT {COLUMNS}, 'forged' FROM heavylift_transfers WHERE idempotency_key = 't1'"
)
ENTRY: Final = (
    "INSERT INTO heavylift_entries (accounts_table, money_column, account, version, idempotency_key, kind, amount, "
    "balance_before, balance_after) VALUES "
)


@pytest.fixture
async def books(make_runner: MakeRunner, database: Database) -> Database:
    """Books of some transfers among three accounts, one of them refused."""
    await open_bank(database, {"a": 100, "b": 100, "c": 100})
    rows = [row(f"t{n}", "abc"[n % 3], "abc"[(n + 1) % 3], 10) for n in range(9)]
    await banker(make_runner()).run(batch(*rows, row("refused", "a", "b", 1000)))
    return database


async def test_sound_books(books: Database) -> None:
    """Each rule is looked at over all that there is, and none is broken."""
    checked = {rule.name: rule for rule in await check_books(books, bank_tables())}
    assert {rule.broken for rule in checked.values()} == {0}
    assert checked["complete"].looked_at == 10
    assert checked["chained"].looked_at == 21
    assert checked["balances of account.balance"].looked_at == 3
    assert checked["guarded"].looked_at == 3


async def test_empty_books(database: Database) -> None:
    """Where nothing was ever transferred all is well."""
    await open_bank(database)
    assert await broken(database) == {}


@pytest.mark.parametrize("table", BOOKS)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {} SET created_at = created_at",
        "DELETE FROM {}",
        pytest.param(
            "TRUNCATE {} CASCADE",
            marks=pytest.mark.only_on(
                "postgresql", why="SQLite has no TRUNCATE, and MariaDB's fires no trigger: the verifier finds it"
            ),
        ),
    ],
)
async def test_edits_are_refused(books: Database, table: str, statement: str) -> None:
    """No row of the books is ever changed or removed, with the reason and what to do instead."""
    with pytest.raises(DBAPIError, match=f"{table}.* only ever added to"):
        await execute(books, statement.format(table))


@pytest.mark.only_on("postgresql", why="only its sessions can call themselves replicas")
async def test_edits_are_refused_to_replicas(books: Database) -> None:
    """A session that calls itself a replica, which skips ordinary triggers, edits nothing either."""
    with pytest.raises(DBAPIError, match="only ever added to"):
        await execute(books, "SET LOCAL session_replication_role = replica", "DELETE FROM heavylift_refusals")


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param(
            "('account', 'balance', 'a', 90, 'forged', 'debit', -5, 10, 5)",
            marks=pytest.mark.only_on(
                "postgresql", why="other databases have triggers for rows only: the verifier finds that one is missing"
            ),
        ),
        (
            "('account', 'balance', 'a', 90, 'forged', 'debit', -5, 10, 5), "
            "('account', 'balance', 'b', 90, 'forged', 'credit', 6, 10, 16)"
        ),
    ],
)
async def test_entries_that_do_not_cancel_out_are_refused(books: Database, entries: str) -> None:
    """The database itself takes a transfer's entries only together, and only if they sum to nothing."""
    with pytest.raises(DBAPIError, match="cancel out"):
        await execute(books, HEADER, ENTRY + entries)


async def assert_refused(database: Database, statement: Statement) -> None:
    """A statement is refused for what it says of its row."""
    with pytest.raises(DBAPIError) as raised:
        await execute(database, statement)
    assert classify(raised.value, database.dialect.errors) is ErrorKind.REFUSED_ROW


@pytest.mark.parametrize(
    "entry",
    [
        "('account', 'balance', 'a', 90, 't1', 'debit', -5, 10, 6)",
        "('account', 'balance', 'a', 90, 't1', 'debit', 5, 10, 15)",
        "('account', 'balance', 'a', 90, 't1', 'debit', -5, 3, -2)",
        "('account', 'balance', 'a', 90, 't1', 'debit', 'NaN', 'NaN', 'NaN')",
        "('account', 'balance', 'a', 90, 't1', 'credit', 'Infinity', 0, 'Infinity')",
        "('account', 'balance', 'a', 90, NULL, 'credit', 5, 0, 5)",
        "('account', 'balance', 'a', 1, NULL, 'opening', 5, 0, 5)",
        "('account', 'balance', 'z', 2, NULL, 'opening', 5, 0, 5)",
        "('account', 'balance', 'z', 1, NULL, 'opening', 5, 1, 6)",
        "('account', 'balance', 'a', 90, 't1', 'debit', -5, 10, 5)",
        "('account', 'balance', 'a', 90, 'nobody', 'debit', -5, 10, 5)",
    ],
)
async def test_entries_that_are_none_are_refused(books: Database, entry: str) -> None:
    """Arithmetic, signs, infinities, second entries of a kind, repeated versions, entries of no transfer."""
    await assert_refused(books, ENTRY + entry)


@pytest.mark.parametrize("amount", ["0", "-1", "'NaN'", "'Infinity'"])
async def test_amounts_that_are_none_are_refused(books: Database, amount: str) -> None:
    """A header's amount is more than nothing, and a number."""
    await assert_refused(
        books,
        "INSERT INTO heavylift_transfers (idempotency_key, request_hash, accounts_table, money_column, "
        "from_account, to_account, amount, reason, actor, run_id) "
        f"VALUES ('x', '', '', '', '', '', {amount}, '', '', '')",
    )


@pytest.mark.parametrize(
    ("statements", "rules"),
    [
        (["DELETE FROM heavylift_entries WHERE idempotency_key = 't8' AND kind = 'credit'"],
         {"complete", "cancel_out", "total", "balances of account.balance"}),
        (["DELETE FROM heavylift_entries WHERE idempotency_key = 't8'"], {"complete", "balances of account.balance"}),
        (["DELETE FROM heavylift_refusals"], {"complete"}),
        (["INSERT INTO heavylift_refusals (idempotency_key, code, message) VALUES ('t1', 'same_account', '')"],
         {"complete"}),
        (["DELETE FROM heavylift_transfers WHERE idempotency_key = 't1'"], {"headed"}),
        (["DELETE FROM heavylift_transfers WHERE idempotency_key = 'refused'"], {"headed"}),
        (["UPDATE heavylift_transfers SET amount = 11 WHERE idempotency_key = 't1'"], {"as_asked", "as_sent"}),
        (["UPDATE heavylift_transfers SET from_account = 'c' WHERE idempotency_key = 't1'"], {"as_asked", "as_sent"}),
        (["UPDATE heavylift_transfers SET reason = 'gift' WHERE idempotency_key = 't1'"], {"as_sent"}),
        (["UPDATE heavylift_transfers SET request_hash = '0' WHERE idempotency_key = 't1'"], {"as_sent"}),
        ([("UPDATE heavylift_entries SET account = 'z', version = version - 1 "
          "WHERE idempotency_key = 't8' AND kind = 'credit'")],
         {"gapless", "as_asked", "chained", "summed", "balances of account.balance"}),
        (["UPDATE heavylift_entries SET version = version + 1 WHERE idempotency_key = 't8' AND kind = 'credit'"],
         {"gapless"}),
        ([("UPDATE heavylift_entries SET amount = amount + 1, balance_after = balance_after + 1 "
          "WHERE idempotency_key = 't1' AND kind = 'credit'")],
         {"cancel_out", "total", "as_asked", "chained", "summed"}),
        ([("UPDATE heavylift_entries SET balance_before = balance_before + 1, balance_after = balance_after + 1 "
          "WHERE idempotency_key = 't1' AND kind = 'credit'")],
         {"chained"}),
        ([("UPDATE heavylift_entries SET amount = amount + 1, balance_after = balance_after + 1 "
          "WHERE account = 'a' AND kind = 'opening'")],
         {"chained", "summed"}),
        (["UPDATE account SET balance = balance + 1 WHERE id = 'a'"], {"balances of account.balance"}),
        (["DELETE FROM account WHERE id = 'a'"], {"balances of account.balance"}),
    ],
)  # fmt: skip
async def test_whatever_was_done_is_found(books: Database, statements: list[str], rules: set[str]) -> None:
    """Every kind of tampering breaks the rules that speak of it, and each finding can be told in one line."""
    await tamper(books, *statements)
    found = await broken(books)
    assert set(found) == rules
    assert all(rule.findings and all("\n" not in line for line in rule.findings) for rule in found.values())


async def test_findings_name_what_is_wrong(books: Database) -> None:
    """A finding has the account and both values."""
    await execute(books, "UPDATE account SET balance = 77.5 WHERE id = 'a'")
    (rule,) = (await broken(books)).values()
    told = re.fullmatch(r"account 'a': account\.balance has ([\d.]+), and its books end at ([\d.]+)", rule.findings[0])
    # how many zeros a number ends with is the database's to say
    assert told
    assert [Decimal(number) for number in told.groups()] == [Decimal("77.5"), 100]


async def test_only_the_first_findings_are_told(books: Database) -> None:
    """However much is wrong, a few lines and the number say it."""
    await tamper(books, "UPDATE heavylift_transfers SET request_hash = '0'")
    (rule,) = (await broken(books)).values()
    assert (rule.broken, len(rule.findings)) == (10, SHOWN)


GONE: Final = "is gone"
CHANGED: Final = "is another one than heavylift made"
DISABLED: Final = "not enabled for everybody"
HOLLOW: Final = "CREATE TRIGGER heavylift_refusals_no_delete BEFORE DELETE ON heavylift_refusals "
NOTHING: Final = "RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"
FOR_DELETES: Final = "BEFORE DELETE ON heavylift_refusals FOR EACH STATEMENT EXECUTE FUNCTION heavylift_refuse_edits()"
WITHOUT_GUARD: Final[Mapping[Backend, Mapping[str, tuple[str, tuple[str, ...]]]]] = {
    "postgresql": {
        "disabled": (DISABLED, ("ALTER TABLE heavylift_entries DISABLE TRIGGER heavylift_entries_append_only",)),
        "not for all": (DISABLED, ("ALTER TABLE heavylift_entries ENABLE TRIGGER heavylift_entries_append_only",)),
        "unbalanced": (
            "heavylift_entries_cancel_out of",
            ("DROP TRIGGER heavylift_entries_cancel_out ON heavylift_entries",),
        ),
        "dropped": (GONE, ("DROP TRIGGER heavylift_transfers_append_only ON heavylift_transfers",)),
        "hollow": (
            "function heavylift_refuse_edits was changed",
            (f"CREATE OR REPLACE FUNCTION heavylift_refuse_edits() {NOTHING}",),
        ),
        "replaced": (
            DISABLED,
            (f"CREATE OR REPLACE TRIGGER heavylift_refusals_append_only {FOR_DELETES}",),
        ),
    },
    "sqlite": {
        "unbalanced": (GONE, ("DROP TRIGGER heavylift_entries_cancel_out",)),
        "dropped": (GONE, ("DROP TRIGGER heavylift_transfers_no_update",)),
        "hollow": (CHANGED, ("DROP TRIGGER heavylift_refusals_no_delete", f"{HOLLOW} BEGIN SELECT 1; END")),
    },
    "mariadb": {
        "unbalanced": (GONE, ("DROP TRIGGER heavylift_entries_cancel_out",)),
        "dropped": (GONE, ("DROP TRIGGER heavylift_transfers_no_update",)),
        "hollow": (CHANGED, ("DROP TRIGGER heavylift_refusals_no_delete", f"{HOLLOW} FOR EACH ROW SET @seen = 1")),
    },
}
"""What takes a part of the guard away, and what is then said of it."""


@pytest.mark.samples("case", WITHOUT_GUARD)
async def test_a_guard_that_was_taken_away_is_missed(books: Database, backend: Backend, case: str) -> None:
    """Triggers that are gone, disabled or hollowed out are found."""
    said, statements = WITHOUT_GUARD[backend][case]
    await execute(books, *statements)
    found = await broken(books)
    assert set(found) == {"guarded"}
    assert said in found["guarded"].findings[0]


async def test_an_account_that_was_emptied_may_go(books: Database, make_runner: MakeRunner) -> None:
    """An account whose books end at nothing is missed by nobody."""
    await banker(make_runner()).run(batch(row("last", "a", "b", 100), run_id="last"))
    await execute(books, "DELETE FROM account WHERE id = 'a'")
    assert await broken(books) == {}


async def test_accounts_that_are_not_registered_are_not_passed_over(books: Database) -> None:
    """Balances that cannot be compared are no success: the finding says which setting to change."""
    (rule,) = [rule for rule in await check_books(books, find_tables((), {})) if rule.broken]
    assert (rule.name, rule.broken) == ("balances of account.balance", 3)
    assert "WORKER_MODELS" in rule.findings[0]
