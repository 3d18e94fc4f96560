"""Books in a file of SQLite's: exact to the last digit, and the same rules found broken as on other databases."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Column, Integer, MetaData, Numeric, String, Table, Uuid, exc

from tests.support.sqlite_tables import SqliteWork, sqlite_work
from worker.core.errors import BooksError, RequestError
from worker.core.transfer_terms import BookTerms, book_terms
from worker.core.transfer_verdicts import TransferEnd
from worker.core.transfers import Transfer
from worker.database.book_statements import Origin
from worker.database.books import Books
from worker.database.migrate import migrate
from worker.database.sqlite.book_statements import SqliteBooks
from worker.database.sqlite.decimals import read_number, written
from worker.database.transfer_check import check_books
from worker.declare.tables import RegisteredTable, Tables

pytestmark = pytest.mark.filterwarnings("ignore:Dialect sqlite:sqlalchemy.exc.SAWarning")

TABLES = ("heavylift_transfers", "heavylift_entries", "heavylift_refusals")
DIFFERENT = (
    "UPDATE heavylift_entries SET balance_before = '5.1', balance_after = '4' WHERE account = 'a' AND version = 2"
)


@dataclass(frozen=True, slots=True)
class Bank:
    """Accounts in a file, and their books."""

    work: SqliteWork
    table: Table
    terms: BookTerms

    async def post(self, *transfers: tuple[str, str, str, str]) -> list[TransferEnd]:
        """Carry out transfers, given as key, accounts and amount."""
        books = Books(SqliteBooks(self.table, self.terms), self.terms, Origin("tester", "run"))
        asked = [
            Transfer(key, source, target, self.terms.amount(amount), "rent")
            for key, source, target, amount in transfers
        ]
        async with self.work.database.engine.begin() as connection:
            return [verdict.end for verdict in await books.post(connection, asked)]

    async def broken(self) -> dict[str, tuple[str, ...]]:
        """What the verifier finds, by rule."""
        tables = Tables({"account": RegisteredTable("account", self.table, None)}, {})
        return {rule.name: rule.findings for rule in await check_books(self.work.database, tables) if rule.broken}


@pytest.fixture
async def work(tmp_path: Path) -> AsyncIterator[SqliteWork]:
    """A file of the test's own, with a ledger."""
    async with sqlite_work(tmp_path / "test.db") as found:
        await migrate(found.database)
        yield found


async def open_bank(work: SqliteWork, key: Any, money: Any, balances: dict[Any, Any]) -> Bank:
    """A bank whose accounts have keys and money of some types."""
    table = Table("account", MetaData(), Column("id", key, primary_key=True), Column("balance", money, nullable=False))
    await work.create(table)
    await work.upsert(table, [{"id": name, "balance": balance} for name, balance in balances.items()])
    return Bank(work, table, book_terms(await work.facts(table), "balance"))


async def test_amounts_are_exact(work: SqliteWork) -> None:
    """Ten cents three times are thirty, in the accounts and in the books, though no float of SQLite's says so."""
    bank = await open_bank(work, String(9), Numeric(12, 2), {"a": Decimal("0.30"), "b": Decimal(0)})
    assert await bank.post(*((f"k{n}", "a", "b", "0.10") for n in range(3))) == [TransferEnd.APPLIED] * 3
    assert await work.rows("SELECT id, CAST(balance AS TEXT) FROM account ORDER BY id") == [("a", "0"), ("b", "0.3")]
    assert await work.rows("SELECT balance_after FROM heavylift_entries WHERE account = 'b' ORDER BY version") == [
        ("0",),
        ("0.1",),
        ("0.2",),
        ("0.3",),
    ]
    assert await bank.broken() == {}


@pytest.mark.parametrize(
    ("key", "names"),
    [
        (Integer(), (1, 2**40)),
        (String(20), ("ä", "1e5")),
        (Uuid(), (UUID(int=2**127 + 1), UUID("01234567-89ab-cdef-0123-456789abcdef"))),
    ],
)
async def test_keys_of_each_kind(work: SqliteWork, key: Any, names: tuple[Any, Any]) -> None:
    """An account is found by the written form of its key, and the books know it by that."""
    bank = await open_bank(work, key, BigInteger(), {names[0]: 10**18 - 1, names[1]: 0})
    first, second = map(str, names)
    amount = str(10**18 - 1)
    assert await bank.post(("k", first, second, amount)) == [TransferEnd.APPLIED]
    assert await work.content(bank.table) == sorted([(names[0], 0), (names[1], 10**18 - 1)])
    assert await bank.post(("k", first, second, amount)) == [TransferEnd.REPLAYED]
    assert await bank.post(("k", first, second, "1")) == [TransferEnd.CONFLICT]
    assert await bank.post(("l", first, second, "1")) == [TransferEnd.REFUSED]
    assert {name for (name,) in await work.rows("SELECT account FROM heavylift_entries")} == {first, second}
    assert await bank.broken() == {}


async def test_a_balance_of_floats_that_were_added_up_is_what_its_column_says(work: SqliteWork) -> None:
    """Where an application let SQLite add floats, the balance is the rounded number that its model reads."""
    bank = await open_bank(work, String(9), Numeric(12, 2), {"a": Decimal(100), "b": Decimal(0)})
    for _ in range(10):
        await work.execute(*(["UPDATE account SET balance = balance + 0.1 WHERE id = 'a'"] * 100))
    (((held),),) = await work.rows("SELECT balance FROM account WHERE id = 'a'")
    assert held != 200
    assert await bank.broken() == {}
    assert await bank.post(("k", "a", "b", "200.00")) == [TransferEnd.APPLIED]
    assert await work.rows("SELECT balance FROM account ORDER BY id") == [(0,), (200,)]
    assert await bank.broken() == {}


async def test_a_balance_beyond_its_column_is_the_databases_to_refuse(work: SqliteWork) -> None:
    """SQLite would store it: it is refused by a constraint, as another database's NUMERIC refuses it."""
    bank = await open_bank(work, String(9), Numeric(5, 2), {"a": Decimal(900), "b": Decimal(900)})
    with pytest.raises(exc.IntegrityError, match="heavylift_balance_is_numeric_5_2"):
        await bank.post(("k", "a", "b", "100.00"))
    assert await work.rows("SELECT balance FROM account") == [(900,), (900,)]
    assert await bank.post(("k", "a", "b", "99.99")) == [TransferEnd.APPLIED]


@pytest.mark.parametrize(
    ("declaration", "said"),
    [
        ("NUMERIC(20,2)", r"numeric\(20,2\), of which this database keeps no more than 15 digits exactly"),
        ("DECIMAL", r"is numeric, of which this database keeps no more than 15 digits exactly"),
        ("REAL", "is double precision, which does not hold money exactly"),
        ("TEXT", "is text, which does not hold money exactly"),
    ],
)
async def test_what_cannot_hold_money_exactly_is_refused(work: SqliteWork, declaration: str, said: str) -> None:
    """The refusal says what the column is, and what would do."""
    await work.execute(f"CREATE TABLE account (id TEXT PRIMARY KEY, balance {declaration})")
    table = Table("account", MetaData(), Column("id", String, primary_key=True), Column("balance", Numeric))
    with pytest.raises(RequestError, match=said):
        book_terms(await work.facts(table), "balance")


async def test_a_trigger_between_is_found(work: SqliteWork) -> None:
    """Where the account does not hold what it was given, nothing is booked."""
    bank = await open_bank(work, String(9), Numeric(12, 2), {"a": Decimal(5), "b": Decimal(0)})
    await work.execute(
        "CREATE TRIGGER tax AFTER UPDATE ON account WHEN new.id = 'b' "
        "BEGIN UPDATE account SET balance = balance - 0.01 WHERE id = 'b'; END"
    )
    with pytest.raises(BooksError, match=r"was given 5\.00 in 'balance' and holds 4\.99 then"):
        await bank.post(("k", "a", "b", "5"))


async def test_an_account_that_was_changed_by_something_else_is_left_alone(work: SqliteWork) -> None:
    """What an account holds and what its books end at must be one number."""
    bank = await open_bank(work, String(9), Numeric(12, 2), {"a": Decimal(5), "b": Decimal(0), "c": Decimal(0)})
    await bank.post(("k", "a", "b", "1.10"))
    await work.execute("UPDATE account SET balance = balance + 0.01 WHERE id = 'b'")
    assert await bank.post(("l", "a", "b", "1"), ("m", "a", "c", "1")) == [TransferEnd.UNSOUND, TransferEnd.APPLIED]
    assert await bank.broken() == {
        "balances of account.balance": ("account 'b': account.balance has 1.11, and its books end at 1.1",)
    }


@pytest.mark.parametrize(
    ("rule", "statement", "found"),
    [
        (
            "cancel_out",
            "UPDATE heavylift_entries SET amount = '1.2', balance_after = '1.2' WHERE account = 'b' AND version = 2",
            "the entries of transfer 'k' sum to 0.1",
        ),
        (
            "total",
            "UPDATE heavylift_entries SET amount = '1.2', balance_after = '1.2' WHERE account = 'b' AND version = 2",
            "the entries of account.balance sum to 0.1",
        ),
        (
            "as_asked",
            "UPDATE heavylift_transfers SET amount = '1.11'",
            "the debit of transfer 'k' is -1.1 of account 'a', and the transfer is 1.11 from 'a' to 'b'",
        ),
        (
            "chained",
            DIFFERENT,
            "account 'a' of account.balance goes from 5.1 by -1.1 to 4, and the entry before it ended at 5",
        ),
        (
            "summed",
            DIFFERENT,
            "the entries of account 'a' of account.balance sum to 3.9, and the last one ends at 4",
        ),
        (
            "as_sent",
            "UPDATE heavylift_transfers SET reason = 'else'",
            "transfer 'k' does not say what was asked for when it was written down",
        ),
        (
            "gapless",
            "DELETE FROM heavylift_entries WHERE version = 1 AND account = 'b'",
            "has version 2 where 1 was due",
        ),
    ],
)
async def test_each_rule_is_checked_exactly(work: SqliteWork, rule: str, statement: str, found: str) -> None:
    """The verifier finds what is not so, with sums to the last digit."""
    bank = await open_bank(work, String(9), Numeric(12, 2), {"a": Decimal(5), "b": Decimal(0)})
    await bank.post(("k", "a", "b", "1.10"))
    assert await bank.broken() == {}
    names = await work.rows("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name LIKE 'heavylift%'")
    await work.execute(*(f"DROP TRIGGER {name}" for (name,) in names), statement)
    broken = await bank.broken()
    assert found in broken[rule][0]
    assert broken["guarded"]


@given(st.decimals(min_value=Decimal("-9999999999999.99"), max_value=Decimal("9999999999999.99"), places=2))
def test_a_float_of_15_digits_is_the_number_that_was_meant(amount: Decimal) -> None:
    """What a NUMERIC(15,2) keeps is read as what was stored."""
    assert read_number(float(amount), 2) == amount
    assert Decimal(written(read_number(float(amount)))) == amount


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1.50", "1.5"),
        (-0.0, "0"),
        (7, "7"),
        (1e15, "1000000000000000"),
        ("", "NaN"),
        (float("inf"), "NaN"),
        (b"x", "NaN"),
    ],
)
def test_an_amount_has_one_form(value: Any, text: str) -> None:
    """Whatever a column holds is one text, and what is no number is no amount."""
    assert written(read_number(value)) == text
