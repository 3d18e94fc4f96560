"""Books on a MariaDB: exact to the last digit, and broken rules are found as on other databases."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, Numeric, String, Table, exc, func, text
from sqlalchemy.dialects import mysql as own

from tests.support.mysql_tables import Merging, mysql_engine
from worker.core.errors import BooksError, RequestError
from worker.core.settings import Settings
from worker.core.transfer_terms import BookTerms, book_terms
from worker.core.transfer_verdicts import TransferEnd
from worker.core.transfers import Transfer
from worker.database.book_statements import Origin
from worker.database.books import Books
from worker.database.engine import Database, open_database
from worker.database.migrate import migrate
from worker.database.mysql.book_statements import MySqlBooks
from worker.database.mysql.row_insert import number_of
from worker.database.transfer_check import check_books
from worker.declare.tables import RegisteredTable, Tables

ID: Any = String(20, collation="utf8mb4_nopad_bin")
LEAST = "0." + "0" * 29 + "1"
FIRST, SECOND = UUID("f1234567-89ab-4def-8123-456789abcdef"), UUID("01234567-89ab-4def-8123-456789abcdef")


@dataclass(frozen=True, slots=True)
class Bank:
    """Accounts in a database, and their books."""

    merging: Merging
    database: Database
    table: Table
    terms: BookTerms

    async def post(self, *transfers: tuple[str, str, str, str]) -> list[TransferEnd]:
        """Carry out transfers, given as key, accounts and amount."""
        books = Books(MySqlBooks(self.table, self.terms), self.terms, Origin("tester", "run"))
        asked = [
            Transfer(key, source, target, self.terms.amount(amount), "rent ü")
            for key, source, target, amount in transfers
        ]
        async with self.database.engine.begin() as connection:
            return [verdict.end for verdict in await books.post(connection, asked)]

    async def broken(self) -> dict[str, tuple[str, ...]]:
        """What the verifier finds, by rule."""
        tables = Tables({"account": RegisteredTable("account", self.table, None)}, {})
        return {rule.name: rule.findings for rule in await check_books(self.database, tables) if rule.broken}

    async def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What a query finds."""
        async with self.database.engine.connect() as connection:
            return [tuple(row) for row in await connection.execute(text(statement))]


@pytest.fixture
async def database(mariadb_url: str) -> AsyncIterator[Database]:
    """A ledger in a database of the test's own."""
    async with mysql_engine(mariadb_url) as engine:
        url = engine.url.render_as_string(hide_password=False)
        opened = open_database(Settings(database_url=SecretStr(url)), "test")
        await migrate(opened)
        yield opened
        await opened.dispose()


async def open_bank(database: Database, key: Any, money: Any, balances: dict[Any, Any]) -> Bank:
    """A bank whose accounts have keys and money of some types."""
    merging = Merging(database.engine)
    table = Table("account", MetaData(), Column("id", key, primary_key=True, autoincrement=False))
    table.append_column(Column("balance", money, nullable=False))
    await merging.create(table)
    await merging.upsert(table, [{"id": name, "balance": balance} for name, balance in balances.items()])
    return Bank(merging, database, table, book_terms(await merging.facts(table), "balance"))


async def test_amounts_are_exact(database: Database) -> None:
    """Ten cents three times are thirty, with as many decimals as the money has."""
    bank = await open_bank(database, ID, Numeric(12, 2), {"a": Decimal("0.30"), "b": Decimal(0)})
    assert await bank.post(*((f"k{n}", "a", "b", "0.10") for n in range(3))) == [TransferEnd.APPLIED] * 3
    assert await bank.rows("SELECT id, balance FROM account ORDER BY id") == [
        ("a", Decimal("0.00")),
        ("b", Decimal("0.30")),
    ]
    assert await bank.broken() == {}


async def test_every_digit_counts(database: Database) -> None:
    """Amounts with as many digits as the books keep are moved and verified to the last one."""
    whole = "9" * 35
    bank = await open_bank(database, ID, Numeric(65, 30), {"a": Decimal(f"{whole}.{'9' * 30}"), "b": Decimal(0)})
    assert await bank.post(("k", "a", "b", LEAST), ("l", "a", "b", f"{whole}.{'9' * 28}"), ("m", "a", "b", "1")) == [
        TransferEnd.APPLIED,
        TransferEnd.APPLIED,
        TransferEnd.REFUSED,
    ]
    assert await bank.broken() == {}


async def test_more_decimals_than_the_books_keep(database: Database) -> None:
    """A column whose amounts the books could not hold is refused before anything is booked."""
    await Merging(database.engine).execute("CREATE TABLE account (id int PRIMARY KEY, balance decimal(65,31))")
    table = Table("account", MetaData(), Column("id", Integer, primary_key=True), Column("balance", Numeric))
    terms = book_terms(await Merging(database.engine).facts(table), "balance")
    with pytest.raises(RequestError, match=r"is numeric\(65,31\), and the books keep 30 decimals"):
        MySqlBooks(table, terms)


@pytest.mark.parametrize(
    ("key", "names"),
    [
        (Integer(), (1, 2)),
        (own.BIGINT(unsigned=True), (2**64 - 1, 2**53 + 1)),
        (ID, ("ä", "1e5")),
        (ID, ("a", "A")),
        (ID, ("a", "a ")),
        ("uuid", (FIRST, SECOND)),
    ],
)
async def test_keys_of_each_kind(database: Database, key: Any, names: tuple[Any, Any]) -> None:
    """An account is found by the written form of its key, and the books know it by that."""
    merging = Merging(database.engine)
    if key == "uuid":
        await merging.execute("CREATE TABLE account (id uuid PRIMARY KEY, balance bigint)")
        table = Table("account", MetaData(), Column("id", String(36), primary_key=True), Column("balance", BigInteger))
        await merging.upsert(table, [{"id": names[0], "balance": 10**18 - 1}, {"id": names[1], "balance": 0}])
        bank = Bank(merging, database, table, book_terms(await merging.facts(table), "balance"))
    else:
        bank = await open_bank(database, key, BigInteger(), {names[0]: 10**18 - 1, names[1]: 0})
    first, second = map(str, names)
    amount = str(10**18 - 1)
    assert await bank.post(("k", first, second, amount)) == [TransferEnd.APPLIED]
    assert await bank.post(("k", first, second, amount)) == [TransferEnd.REPLAYED]
    assert await bank.post(("k", first, second, "1")) == [TransferEnd.CONFLICT]
    assert await bank.post(("l", first, second, "1")) == [TransferEnd.REFUSED]
    assert {name for (name,) in await bank.rows("SELECT account FROM heavylift_entries")} == {first, second}
    assert await bank.broken() == {}


async def test_keys_that_a_collation_takes_for_one(database: Database) -> None:
    """A key whose collation overlooks differences is refused: it would give one account several names."""
    await Merging(database.engine).execute("CREATE TABLE account (id varchar(9) PRIMARY KEY, balance decimal(9,2))")
    table = Table("account", MetaData(), Column("id", String(9), primary_key=True), Column("balance", Numeric))
    with pytest.raises(RequestError, match="one written form for each account"):
        book_terms(await Merging(database.engine).facts(table), "balance")


async def test_onupdate_columns_are_set(database: Database) -> None:
    """An account that is booked on gets what its model sets on an update."""
    merging = Merging(database.engine)
    table = Table("account", MetaData(), Column("id", Integer, primary_key=True), Column("balance", Integer))
    table.append_column(Column("version", Integer, default=1, onupdate=7))
    table.append_column(Column("at", DateTime, onupdate=func.now()))
    await merging.create(table)
    await merging.upsert(table, [{"id": 1, "balance": 5}, {"id": 2, "balance": 0}, {"id": 3, "balance": 0}])
    bank = Bank(merging, database, table, book_terms(await merging.facts(table), "balance"))
    await bank.post(("k", "1", "2", "5"))
    assert await bank.rows("SELECT id, balance, version, at IS NULL FROM account ORDER BY id") == [
        (1, 0, 7, 0),
        (2, 5, 7, 0),
        (3, 0, 1, 1),
    ]


async def test_a_balance_beyond_its_column_is_the_databases_to_refuse(database: Database) -> None:
    """Nothing is cut off: the chunk is refused, and nothing of it stays."""
    bank = await open_bank(database, ID, Numeric(5, 2), {"a": Decimal(900), "b": Decimal(900)})
    with pytest.raises(exc.DBAPIError) as caught:
        await bank.post(("k", "a", "b", "100.00"))
    assert number_of(caught.value) == 1264
    assert await bank.rows("SELECT balance FROM account") == [(900,), (900,)]
    assert await bank.post(("k", "a", "b", "99.99")) == [TransferEnd.APPLIED]


async def test_a_trigger_between_is_found(database: Database) -> None:
    """Where the account does not hold what it was given, nothing is booked."""
    bank = await open_bank(database, ID, Numeric(12, 2), {"a": Decimal(5), "b": Decimal(0)})
    await bank.merging.execute(
        "CREATE TRIGGER tax BEFORE UPDATE ON account FOR EACH ROW "
        "SET NEW.balance = IF(NEW.id = 'b', NEW.balance - 0.01, NEW.balance)"
    )
    with pytest.raises(BooksError, match=r"was given 5\.00 in 'balance' and holds 4\.99 then"):
        await bank.post(("k", "a", "b", "5"))


async def test_an_account_that_was_changed_by_something_else_is_left_alone(database: Database) -> None:
    """What an account holds and what its books end at must be one number."""
    bank = await open_bank(database, ID, Numeric(12, 2), {"a": Decimal(5), "b": Decimal(0), "c": Decimal(0)})
    await bank.post(("k", "a", "b", "1.10"))
    await bank.merging.execute("UPDATE account SET balance = balance + 0.01 WHERE id = 'b'")
    assert await bank.post(("l", "a", "b", "1"), ("m", "a", "c", "1")) == [TransferEnd.UNSOUND, TransferEnd.APPLIED]
    ((said,),) = (await bank.broken()).values()
    assert said.startswith("account 'b': account.balance has 1.11")


@pytest.mark.parametrize(
    ("rule", "statement", "found"),
    [
        (
            "cancel_out",
            "UPDATE heavylift_entries SET amount = 1.2, balance_after = 1.2 WHERE account = 'b' AND version = 2",
            "the entries of transfer 'k' sum to 0.1",
        ),
        ("as_asked", "UPDATE heavylift_transfers SET amount = 1.11", "the debit of transfer 'k' is -1.1"),
        (
            "chained",
            (
                f"UPDATE heavylift_entries SET balance_before = 5 + {LEAST}, balance_after = 3.9 + {LEAST}"
                " WHERE account = 'a' AND version = 2"
            ),
            "account 'a' of account.balance goes from 5.000000000000000000000000000001 by -1.1",
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
async def test_each_rule_is_checked_exactly(database: Database, rule: str, statement: str, found: str) -> None:
    """The verifier finds what is not so, with sums to the last digit."""
    bank = await open_bank(database, ID, Numeric(12, 2), {"a": Decimal(5), "b": Decimal(0)})
    await bank.post(("k", "a", "b", "1.10"))
    assert await bank.broken() == {}
    names = await bank.rows("SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = DATABASE()")
    await bank.merging.execute("; ".join([*(f"DROP TRIGGER {name}" for (name,) in names), statement]))
    broken = await bank.broken()
    assert found in broken[rule][0]
    assert broken["guarded"]


async def test_many_at_once(database: Database) -> None:
    """Eight sessions that move money between the same accounts in all directions lose none, and none is refused."""
    names = [f"a{number}" for number in range(6)]
    bank = await open_bank(database, ID, Numeric(12, 2), dict.fromkeys(names, Decimal(1000)))

    async def move(session: int) -> list[TransferEnd]:
        ends = []
        for turn in range(10):
            pairs = [(names[(session + at) % 6], names[(session * turn + at + 1) % 6]) for at in range(6)]
            asked = [
                (f"{session}/{turn}/{at}", source, target, "1.01")
                for at, (source, target) in enumerate(pairs)
                if source != target
            ]
            ends += await bank.post(*asked)
        return ends

    ends = [end for found in await asyncio.gather(*(move(session) for session in range(8))) for end in found]
    assert set(ends) == {TransferEnd.APPLIED}
    assert await bank.rows("SELECT SUM(balance) FROM account") == [(Decimal("6000.00"),)]
    assert await bank.broken() == {}


async def test_one_key_from_many_sessions(database: Database) -> None:
    """Of sessions that send the same transfers at once, one carries out each, and the others find it done."""
    bank = await open_bank(database, ID, Numeric(12, 2), {"a": Decimal(1000), "b": Decimal(0)})
    asked = [(f"k{number}", "a", "b", "1") for number in range(50)]
    found = await asyncio.gather(*(bank.post(*(asked if at % 2 else asked[::-1])) for at in range(8)))
    for ends in zip(*(ends if at % 2 else ends[::-1] for at, ends in enumerate(found)), strict=True):
        assert sorted(ends) == [TransferEnd.APPLIED, *[TransferEnd.REPLAYED] * 7]
    assert await bank.rows("SELECT balance FROM account ORDER BY id") == [(950,), (50,)]
