"""A small bank for tests: its accounts, deliveries of transfers between them, and a look at its books."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from sqlalchemy import Table, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import SQLModel

from tests.support import bank_models
from tests.support.bank_models import Account
from tests.support.own_session import rows_of
from worker.core.outcomes import Failed, Outcome, Succeeded
from worker.core.transfer_terms import TRANSFER_FIELDS
from worker.database.claims import Delivery
from worker.database.engine import Database
from worker.database.transfer_check import CheckedRule, check_books
from worker.declare.tables import Tables, find_tables
from worker.run.runner import Runner

BANK = bank_models.__name__
ACCOUNT: Table = Account.__table__  # type: ignore[attr-defined]  # SQLModel sets it
PAYMENT: Table = bank_models.Payment.__table__  # type: ignore[attr-defined]  # likewise
PURSE: Table = bank_models.Purse.__table__  # type: ignore[attr-defined]  # likewise
ALLOW = {
    "account": ("transfer:balance",),
    "wallet": ("transfer:cents",),
    "purse": ("transfer:gold",),
    "seat": ("transfer:price",),
    "jar": ("transfer:coins",),
    "payment": ("read",),
}
MODELS: Sequence[type[SQLModel]] = (
    bank_models.Account,
    bank_models.Wallet,
    bank_models.Purse,
    bank_models.Seat,
    bank_models.Jar,
    bank_models.Payment,
)

ENVIRONMENT = {"WORKER_MODELS": BANK, "WORKER_ALLOW": json.dumps(ALLOW)}
"""Settings of a worker of the bank."""

Row = dict[str, object]


def bank_tables() -> Tables:
    """The bank's tables, with the grants that transfers need."""
    return find_tables((BANK,), ALLOW)


async def open_bank(database: Database, balances: Mapping[str, object] | None = None) -> None:
    """Make the bank's tables, and accounts with these balances."""
    async with database.engine.begin() as connection:
        await make_accounts(connection, balances or {})


async def make_accounts(connection: AsyncConnection, balances: Mapping[str, object]) -> None:
    """Make the bank's tables, and accounts with these balances, in a transaction of the caller's."""
    await connection.run_sync(SQLModel.metadata.create_all, [model.__table__ for model in MODELS])  # type: ignore[attr-defined]  # SQLModel sets it
    rows = [{"id": name, "balance": balance} for name, balance in balances.items()]
    if rows:
        await connection.execute(insert(ACCOUNT), rows)


def banker(runner: Runner) -> Runner:
    """A runner that knows the bank's tables."""
    return replace(runner, tables=bank_tables())


def row(key: str, source: object, target: object, amount: object, reason: object = "test") -> Row:
    """A transfer, as a source has it."""
    return {
        "idempotency_key": key,
        "from_account": source,
        "to_account": target,
        "amount": amount,
        "reason": reason,
    }


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """A CSV file of transfers."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, TRANSFER_FIELDS)
        writer.writeheader()
        writer.writerows(rows)


def single(given: Row, run_id: str = "one", table: str = "account") -> Delivery:
    """A run of one transfer."""
    return Delivery(run_id, "transfer_funds", {"table": table, **given}, {}, "arq:queue", 1)


def batch(*rows: Row, run_id: str = "many", table: str = "account") -> Delivery:
    """A run of many transfers."""
    return Delivery(run_id, "transfer_funds", {"table": table, "source": {"rows": list(rows)}}, {}, "arq:queue", 1)


def result(outcome: Outcome) -> dict[str, object]:
    """The result of a run that succeeded."""
    assert isinstance(outcome, Succeeded), outcome
    assert isinstance(outcome.result, dict)
    return outcome.result


def counts(outcome: Outcome) -> tuple[object, ...]:
    """Transfers, refused, replayed and total of a run that succeeded."""
    found = result(outcome)
    return found["transfers"], found["refused"], found["replayed"], found["total"]


def message(outcome: Outcome) -> str:
    """What a run failed with."""
    assert isinstance(outcome, Failed), outcome
    return outcome.error.message


async def balances(database: Database) -> dict[str, Decimal]:
    """The accounts."""
    return dict(await rows_of(database, select(ACCOUNT.c.id, ACCOUNT.c.balance)))


async def broken(database: Database) -> dict[str, CheckedRule]:
    """The rules of the books that are broken, by name."""
    return {rule.name: rule for rule in await check_books(database, bank_tables()) if rule.broken}
