"""The acts with money: ten thousand transfers between a hundred accounts, and the same file sent once more.

Owns these acts and what must come of them: plain Python carries the transfers out in memory, plain SQL adds the table
and the books up, and the verifier looks at every rule. Shares no code with the job.
"""

import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Final

from sqlalchemy import func, insert, select
from sqlmodel import col

from worker.core.outcomes import Status
from worker.database.records import RunRecord
from worker.database.transfer_check import check_books
from worker.database.transfer_tables import ENTRIES, TRANSFERS
from worker.declare.tables import find_tables
from worker.demo.check import Check
from worker.demo.models import Account
from worker.demo.played import Played
from worker.demo.stage import Stage
from worker.demo.worker_process import WorkerProcess

ACCOUNTS: Final = 100
TRANSFERS_SENT: Final = 10_000
OPENING: Final = Decimal("1000.00")
SEED: Final = 2013


@dataclass(slots=True)
class Expected:
    """What must come of a file of transfers, by plain Python.

    Attributes:
        balances: by account, in dollars.
        made: transfers that there was money for.
        refused: those that there was none for.
        moved: what was moved in all.
    """

    balances: dict[int, Decimal] = field(default_factory=dict)
    made: int = 0
    refused: int = 0
    moved: Decimal = Decimal(0)


async def sixth_act(stage: Stage, worker: WorkerProcess, number: int) -> Played:
    """10,000 transfers between 100 accounts, some of them without the money for it."""
    # the books keep every account for ever, so each demonstration opens accounts of its own
    first = time.time_ns() // 1_000_000
    async with stage.client.database.engine.begin() as connection:
        accounts = [{"id": first + at, "balance": OPENING} for at in range(ACCOUNTS)]
        await connection.execute(insert(Account), accounts)
    must = await asyncio.to_thread(write_transfers, stage.transfers, stage.mark, first)
    record = await stage.play(worker, "transfer_funds", _params(stage))
    checks = [
        _status(record),
        Check("transfers", record.counters.get("transfers"), must.made, await _recorded(stage, applied=True)),
        Check("refused", record.counters.get("refused"), must.refused, await _recorded(stage, applied=False)),
        Check("replayed", record.counters.get("replayed"), 0, None),
        Check("money moved", _total(record), str(must.moved), None),
        *await _book_checks(stage, first, must),
    ]
    return Played(number, record, checks, [], TRANSFERS_SENT)


async def seventh_act(stage: Stage, worker: WorkerProcess, number: int) -> Played:
    """The same file of transfers, sent by mistake once more."""
    async with stage.client.database.reading() as connection:
        first = (await connection.execute(select(func.max(Account.id)))).scalar_one() - ACCOUNTS + 1
    must = await asyncio.to_thread(expect_transfers, stage.transfers, first)
    record = await stage.play(worker, "transfer_funds", _params(stage))
    checks = [
        _status(record),
        Check("transfers", record.counters.get("transfers"), 0, None),
        Check("refused", record.counters.get("refused"), 0, None),
        Check("replayed", record.counters.get("replayed"), TRANSFERS_SENT, None),
        *await _book_checks(stage, first, must),
    ]
    return Played(number, record, checks, [], TRANSFERS_SENT)


def write_transfers(path: Path, mark: str, first: int) -> Expected:
    """Write a file of transfers, the same but for their marks each time, and say what must come of them.

    Args:
        path: the NDJSON file to write; what it held is replaced.
        mark: what their idempotency keys begin with.
        first: the first account's id.
    """
    rand = random.Random(SEED)  # noqa: S311 - the same show every time, not a secret
    with path.open("w", encoding="utf-8") as file:
        for number in range(TRANSFERS_SENT):
            payer, payee = rand.sample(range(first, first + ACCOUNTS), 2)
            cents = rand.randint(1, 40_000)
            row = {
                "idempotency_key": f"demo-{mark}-{number}",
                "from_account": payer,
                "to_account": payee,
                "amount": f"{cents // 100}.{cents % 100:02}",
                "reason": "demonstration",
            }
            file.write(f"{json.dumps(row)}\n")
    return expect_transfers(path, first)


def expect_transfers(path: Path, first: int) -> Expected:
    """Carry a file of transfers out in memory: in order, and none that there is no money for."""
    found = Expected(dict.fromkeys(range(first, first + ACCOUNTS), OPENING))
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            amount, payer, payee = Decimal(row["amount"]), row["from_account"], row["to_account"]
            if found.balances[payer] < amount:
                found.refused += 1
                continue
            found.balances[payer] -= amount
            found.balances[payee] += amount
            found.made += 1
            found.moved += amount
    return found


def _params(stage: Stage) -> dict[str, object]:
    return {"table": Account.__tablename__, "source": {"uri": stage.transfers.resolve().as_uri()}}


def _status(record: RunRecord) -> Check:
    return Check("status", record.status.value, Status.SUCCEEDED.value, None)


def _total(record: RunRecord) -> str | None:
    return str(record.result["total"]) if isinstance(record.result, dict) else None


async def _recorded(stage: Stage, *, applied: bool) -> int:
    """How many of this demonstration's transfers the books have, with entries or without."""
    ours = TRANSFERS.c.idempotency_key.startswith(f"demo-{stage.mark}-")
    entered = select(ENTRIES.c.idempotency_key).where(ENTRIES.c.idempotency_key.is_not(None))
    has_entries = TRANSFERS.c.idempotency_key.in_(entered)
    counted = select(func.count()).select_from(TRANSFERS).where(ours, has_entries if applied else ~has_entries)
    async with stage.client.database.reading() as connection:
        return int((await connection.execute(counted)).scalar_one())


async def _book_checks(stage: Stage, first: int, must: Expected) -> list[Check]:
    tables = find_tables(stage.client.settings.models, stage.client.settings.allow)
    async with stage.client.database.reading() as connection:
        rows = await connection.execute(select(col(Account.id), col(Account.balance)).where(col(Account.id) >= first))
        balances = {row.id: row.balance for row in rows}
    broken = sum(rule.broken for rule in await check_books(stage.client.database, tables))
    wrong = sum(balances.get(account) != balance for account, balance in must.balances.items())
    return [
        Check("money in all accounts", None, str(OPENING * ACCOUNTS), str(sum(balances.values()))),
        Check("accounts with another balance", None, 0, wrong),
        Check("broken rules (verify transfers)", None, 0, broken),
    ]
