"""`transfer_funds` of one transfer: carried out, refused, replayed or in conflict, and what it may not be asked."""

import asyncio
from collections.abc import Mapping
from decimal import Decimal, localcontext
from typing import Any, Final
from uuid import UUID

import pytest
from sqlalchemy import Column, Integer, String, cast, insert, select
from sqlalchemy.types import TypeEngine

from tests.conftest import MakeRunner
from tests.support.bank import (
    ACCOUNT,
    PURSE,
    balances,
    bank_tables,
    banker,
    broken,
    counts,
    message,
    open_bank,
    result,
    row,
    single,
)
from tests.support.bank_models import NAME
from tests.support.chosen import Backend
from tests.support.lock_waits import until_somebody_waits
from tests.support.own_session import Rows, execute, put, rows_of, value_of
from tests.support.rebuild import rebuild
from tests.support.refused_as import refused_by
from tests.support.row_triggers import lower
from worker.core.outcomes import Failed, Succeeded
from worker.database.claims import Delivery
from worker.database.column_types import Money
from worker.database.engine import Database
from worker.database.transfer_tables import ENTRIES, TRANSFERS
from worker.run.runner import Runner

RENT = row("rent-1", "alice", "bob", "30.5", "rent")


@pytest.fixture
async def teller(make_runner: MakeRunner, database: Database) -> Runner:
    """A runner of a bank where Alice has a hundred, Bob ten and Carol nothing."""
    await open_bank(database, {"alice": 100, "bob": 10, "carol": 0})
    return banker(make_runner())


async def entries(database: Database, account: str) -> Rows:
    """An account's book."""
    entry = ENTRIES.c
    columns = (
        entry.version,
        entry.kind,
        entry.idempotency_key,
        entry.amount,
        entry.balance_before,
        entry.balance_after,
    )
    return await rows_of(database, select(*columns).where(entry.account == account).order_by(entry.version))


async def test_a_transfer_moves_money_and_is_written_down(teller: Runner, database: Database) -> None:
    """Balances change, both accounts are opened, and each gets an entry with its balance before and after."""
    assert await teller.run(single(RENT)) == Succeeded({"transfers": 1, "refused": 0, "replayed": 0, "total": "30.50"})
    assert await balances(database) == {"alice": Decimal("69.50"), "bob": Decimal("40.50"), "carol": 0}
    assert await entries(database, "alice") == [
        (1, "opening", None, 100, 0, 100),
        (2, "debit", "rent-1", Decimal("-30.50"), 100, Decimal("69.50")),
    ]
    assert await entries(database, "bob") == [
        (1, "opening", None, 10, 0, 10),
        (2, "credit", "rent-1", Decimal("30.50"), 10, Decimal("40.50")),
    ]
    record = await teller.ledger.read("one")
    assert (record.done, record.counters) == (1, {"transfers": 1, "refused": 0, "replayed": 0})
    assert await broken(database) == {}


async def test_a_header_says_who_asked_for_what(teller: Runner, database: Database) -> None:
    """What was asked for, why, in which run and by whom stays on record."""
    await teller.run(single(RENT))
    async with database.engine.connect() as connection:
        header = (await connection.execute(select(TRANSFERS))).mappings().one()
    assert {name: header[name] for name in ("accounts_table", "money_column", "from_account", "to_account")} == {
        "accounts_table": "account",
        "money_column": "balance",
        "from_account": "alice",
        "to_account": "bob",
    }
    assert (header["amount"], header["reason"], header["run_id"]) == (Decimal("30.50"), "rent", "one")
    assert header["actor"] == teller.ledger.worker


async def test_the_same_again_is_a_replay(teller: Runner, database: Database) -> None:
    """The same key with the same request, however its amount is written, moves nothing."""
    await teller.run(single(RENT))
    again = single({**RENT, "amount": "30.50"}, "again")
    assert await teller.run(again) == Succeeded({"transfers": 0, "refused": 0, "replayed": 1, "total": "0.00"})
    assert (await balances(database))["alice"] == Decimal("69.50")
    assert len(await entries(database, "alice")) == 2


@pytest.mark.parametrize(
    "changed", [{"amount": "31"}, {"from_account": "carol"}, {"to_account": "carol"}, {"reason": "gift"}]
)
async def test_a_key_of_another_transfer_fails_at_once(
    teller: Runner, database: Database, changed: dict[str, object]
) -> None:
    """A key that is used for anything else is an error that says what it belongs to."""
    await teller.run(single(RENT))
    outcome = await teller.run(single({**RENT, **changed}, "other"))
    assert isinstance(outcome, Failed)
    assert outcome.error.type == "ConflictError"
    assert "'rent-1' belongs to another transfer: 30.50 from 'alice' to 'bob' for 'rent'" in outcome.error.message
    assert (await teller.ledger.read("other")).attempts == 1
    assert (await balances(database))["alice"] == Decimal("69.50")


async def test_a_key_is_one_for_all_tables(teller: Runner, database: Database) -> None:
    """A key that was used on one table is taken on every other, and the error says where it was used."""
    await execute(database, "INSERT INTO wallet VALUES (1, 500), (2, 0)")
    await teller.run(single(RENT))
    assert "to 'bob' for 'rent' in account.balance, of run 'one'" in message(
        await teller.run(single(row("rent-1", 1, 2, 30), "other", "wallet"))
    )


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        (row("k", "alice", "bob", "100.01"), "insufficient_funds", "'alice' holds 100.00, less than the 100.01"),
        (row("k", "alice", "zoe", "1"), "unknown_account", "no account 'zoe'"),
        (row("k", "zoe", "alice", "1"), "unknown_account", "no account 'zoe'"),
        (row("k", "alice", "alice", "1"), "same_account", "both ends"),
        (row("k", "alice", "Bob", "1"), "unknown_account", "no account 'Bob'"),
    ],
)
async def test_a_refusal_is_a_result_and_final(
    teller: Runner, database: Database, asked: dict[str, object], code: str, said: str
) -> None:
    """A refused transfer succeeds as a run, is recorded, and stays refused though it would be possible later."""
    first = result(await teller.run(single(asked)))
    assert (first["transfers"], first["refused"], first["replayed"], first["total"]) == (0, 1, 0, "0.00")
    assert said in str(first["refusal"])
    assert await rows_of(database, "SELECT idempotency_key, code FROM heavylift_refusals") == [("k", code)]
    await execute(
        database,
        "UPDATE account SET balance = balance + 500",
        "INSERT INTO account VALUES ('zoe', 50), ('Bob', 50)",
    )
    again = result(await teller.run(single(asked, "again")))
    assert (again["refused"], again["replayed"], again["refusal"]) == (0, 1, first["refusal"])
    assert (await balances(database))["alice"] == 600
    assert await entries(database, "alice") == []
    assert await broken(database) == {}


async def test_an_account_can_be_emptied_and_not_overdrawn(teller: Runner, database: Database) -> None:
    """All that is there may leave; a cent more may not."""
    assert counts(await teller.run(single(row("a", "alice", "bob", 100), "1"))) == (1, 0, 0, "100.00")
    assert counts(await teller.run(single(row("b", "alice", "bob", "0.01"), "2"))) == (0, 1, 0, "0.00")
    assert (await balances(database))["alice"] == 0


async def test_a_balance_changed_from_outside_stops_transfers(teller: Runner, database: Database) -> None:
    """An account that does not hold what its books say is left alone; the error has both values and what to do."""
    await teller.run(single(RENT))
    await execute(database, "UPDATE account SET balance = 1000 WHERE id = 'alice'")
    outcome = await teller.run(single(row("b", "alice", "bob", 1), "2"))
    assert isinstance(outcome, Failed)
    assert outcome.error.type == "BooksError"
    for part in ("'alice'", "'balance'", "1000.00", "69.50", "heavylift verify transfers"):
        assert part in outcome.error.message
    await execute(database, "UPDATE account SET balance = 69.50 WHERE id = 'alice'")
    assert counts(await teller.run(single(row("b", "alice", "bob", 1), "3"))) == (1, 0, 0, "1.00")


async def test_a_trigger_that_changes_balances_is_found(teller: Runner, database: Database, backend: Backend) -> None:
    """Where the table stores another balance than it is given, nothing is booked."""
    await execute(database, *lower(backend, "account", "balance"))
    outcome = await teller.run(single(RENT))
    assert isinstance(outcome, Failed)
    assert outcome.error.type == "BooksError"
    assert "a trigger" in outcome.error.message
    assert await entries(database, "alice") == []


async def test_what_the_database_refuses_fails_the_run(teller: Runner, database: Database, backend: Backend) -> None:
    """A constraint of the table is the table's last word: the run fails with it and leaves nothing."""
    await execute(database, "UPDATE account SET balance = 1000000 WHERE id = 'bob'")
    outcome = await teller.run(single(RENT))
    assert isinstance(outcome, Failed)
    assert (outcome.error.sqlstate, outcome.error.constraint) == refused_by(backend, "check", "account_limit")
    assert await entries(database, "bob") == []
    assert await value_of(database, "SELECT count(*) FROM heavylift_transfers") == 0


async def test_one_key_in_two_runs_at_once(teller: Runner, make_runner: MakeRunner, database: Database) -> None:
    """However many runs have one key at the same moment, one carries it out, and the others are replays."""
    runners = [teller, *(banker(make_runner(f"n{number}")) for number in range(4))]
    outcomes = await asyncio.gather(
        *(runner.run(single(RENT, f"run-{number}")) for number, runner in enumerate(runners))
    )
    assert sorted(counts(outcome) for outcome in outcomes) == [(0, 0, 1, "0.00")] * 4 + [(1, 0, 0, "30.50")]
    assert (await balances(database))["alice"] == Decimal("69.50")


async def test_a_run_waits_for_another_with_its_key(teller: Runner, backend: Backend) -> None:
    """While a transaction that has the key is open, a second run waits; when it is rolled back, the second goes on."""
    database = teller.ledger.database
    told = dict.fromkeys(("request_hash", "actor", "run_id"), "x")
    terms = {"accounts_table": "account", "money_column": "balance", "from_account": "alice", "to_account": "bob"}
    async with database.engine.connect() as other:
        header = {"idempotency_key": "rent-1", "amount": Decimal(1), "reason": "", **terms, **told}
        await other.execute(insert(TRANSFERS), header)
        async with until_somebody_waits(database, backend):
            waiting = asyncio.create_task(teller.run(single(RENT)))
        assert not waiting.done()
        await other.rollback()
    assert counts(await waiting) == (1, 0, 0, "30.50")


async def test_integer_keys_and_minor_units(teller: Runner, database: Database) -> None:
    """Accounts may be numbered and hold cents; the model's own names for its columns do not matter."""
    await execute(database, "INSERT INTO wallet VALUES (1, 500), (2, 0), (-3, 7)")
    assert counts(await teller.run(single(row("a", 1, "002", 120), "1", "wallet"))) == (1, 0, 0, "120")
    assert counts(await teller.run(single(row("b", 2, -3, "20"), "2", "wallet"))) == (1, 0, 0, "20")
    assert "5.00 has 2 decimals" in message(await teller.run(single(row("c", 1, 2, "5.00"), "3", "wallet")))
    assert await rows_of(database, "SELECT id, cents FROM wallet ORDER BY id") == [(-3, 27), (1, 380), (2, 100)]
    assert await broken(database) == {}


SMALLEST: Final[Mapping[Backend, str]] = {
    "postgresql": "0.00000000000000000000000000000000001",
    "sqlite": "0.000000001",
    "mariadb": "0.00000000000000000001",
}
"""Of what the purses hold; PostgreSQL's column holds any number of decimals."""


async def test_uuid_keys_and_any_decimals(teller: Runner, database: Database, backend: Backend) -> None:
    """Accounts may have UUIDs, written in any way, and a numeric keeps each of its decimals."""
    one, two = UUID(int=2**127), UUID(int=7)
    await put(database, PURSE, [{"id": one, "gold": Decimal(1)}, {"id": two, "gold": Decimal("0.5")}])
    least = SMALLEST[backend]
    asked = row("a", str(one).upper(), two.hex, least)
    assert counts(await teller.run(single(asked, table="purse"))) == (1, 0, 0, least)
    with localcontext(prec=50):
        expected = [(Decimal("0.5") + Decimal(least),), (Decimal(1) - Decimal(least),)]
    held = await rows_of(database, select(cast(PURSE.c.gold, Money())).order_by(PURSE.c.gold))
    assert held == expected
    assert await broken(database) == {}


@pytest.mark.parametrize(
    ("table", "said"),
    [("seat", "primary key (hall, row)"), ("jar", "does not hold money exactly"), ("acount", "Did you mean 'account'")],
)
async def test_tables_that_cannot_have_books(teller: Runner, table: str, said: str) -> None:
    """A key of several columns, or a float for money, and nothing is moved."""
    asked = row("a", "1", "2", 1)
    assert said in message(await teller.run(single(asked, table=table)))


async def test_a_model_that_knows_another_key(teller: Runner, database: Database) -> None:
    """Accounts are found by the primary key that the database has; a model without that column is told so."""
    await rebuild(database, ACCOUNT, Column("id", NAME, nullable=False), Column("number", Integer, primary_key=True))
    assert "has no column 'number'" in message(await teller.run(single(row("k", 1, 2, 1))))


WITHOUT_CASE: Final[Mapping[Backend, TypeEngine[Any]]] = {
    "sqlite": String(40, collation="NOCASE"),
    "mariadb": String(40, collation="utf8mb4_unicode_ci"),
}
"""Types of texts that are equal if they differ by the case of their letters alone."""


@pytest.mark.only_on("sqlite", "mariadb", why="a PostgreSQL without ICU and extensions has no such text")
async def test_keys_that_the_database_holds_for_equal(teller: Runner, database: Database, backend: Backend) -> None:
    """A table whose keys have several written forms is refused: one account would have several books."""
    await rebuild(database, ACCOUNT, types={"id": WITHOUT_CASE[backend]})
    refused = message(await teller.run(single(row("k", "ALICE", "bob", 1))))
    assert "Transfers need a key that has one written form for each account" in refused


async def test_no_money_moves_without_a_grant(make_runner: MakeRunner, database: Database) -> None:
    """A table whose money column the configuration does not name allows no transfer."""
    await open_bank(database, {"alice": 100, "bob": 10})
    runner = banker(make_runner())
    runner.tables._allow.clear()
    assert '"account": ["transfer:balance"]' in message(await runner.run(single(RENT)))
    assert bank_tables().for_transfers("account")[1] == "balance"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"amount": 30.5}, "30.5 came as a number with a fraction"),
        ({"amount": "NaN"}, "'NaN' is no plain number"),
        ({"amount": "1e1"}, "without exponent"),
        ({"amount": True}, "type bool"),
        ({"amount": "0"}, "not more than 0"),
        ({"amount": "-1"}, "swap the two accounts"),
        ({"amount": "1.005"}, "1.005 has 3 decimals, and column 'balance' (numeric(12,2)) has 2; for example 12.50"),
        ({"amount": None}, "amount is missing"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"idempotency_key": 7}, "idempotency_key"),
        ({"from_account": None, "to_account": None}, "from_account, to_account is missing"),
        ({"from_account": "a\0"}, "NUL"),
        ({"source": {"rows": []}}, "not both"),
        ({"colour": "red"}, "unknown parameter 'colour'"),
    ],
)
async def test_bad_parameters_fail_once_with_one_clear_line(
    teller: Runner, database: Database, changed: dict[str, object], said: str
) -> None:
    """What is no transfer fails at once, saying what is wrong; nothing is written down."""
    assert said in message(await teller.run(single({**RENT, **changed})))
    assert (await teller.ledger.read("one")).attempts == 1
    assert await value_of(database, "SELECT count(*) FROM heavylift_transfers") == 0


async def test_a_redelivered_run_answers_with_its_result(teller: Runner, database: Database) -> None:
    """A run that has ended is not run again, whatever its key."""
    first = await teller.run(single(RENT))
    assert await teller.run(single(RENT)) == first
    later = Delivery("one", "transfer_funds", {"table": "account", **RENT}, {}, "arq:queue", 2)
    assert counts(await teller.run(later)) == (0, 0, 1, "0.00")
    assert (await balances(database))["alice"] == Decimal("69.50")
