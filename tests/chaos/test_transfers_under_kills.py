"""Transfers by several worker processes that are killed at any moment, among deadlocks: no money is made or lost."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from tests.support.bank import ALLOW, BANK, ENVIRONMENT, Row, balances, broken, open_bank, row
from tests.support.bank_models import Account
from tests.support.chosen import Backend
from tests.support.deadlocks import DEADLOCKS, Deadlocks
from tests.support.forge import Forge, ForgedWorker
from worker import REGISTRY, Client, open_client
from worker.core.settings import Settings
from worker.database.engine import Database
from worker.database.tables import RUNS
from worker.database.transfer_tables import TRANSFERS
from worker.main import load_declared

pytestmark = pytest.mark.chaos

ACCOUNTS = [f"account-{number:02}" for number in range(20)]
BATCHES, SENT_TWICE, ROWS = 32, 8, 12
"""Forty runs, eight of which have the keys of another one, in another order."""

WORKERS, KILLS, DEADLOCKS_TRIED = 3, 6, 8
SEED = os.environ.get("HEAVYLIFT_SEED", "20")
ACCOUNT = Account.__table__  # type: ignore[attr-defined]  # SQLModel sets it

StartWorker = Callable[[], Awaitable[ForgedWorker]]
Disturb = Callable[[], Awaitable[None]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings of a client that knows the bank."""
    return settings.model_copy(update={"models": (BANK,), "allow": ALLOW})


@pytest.fixture
async def start_worker(forge: Forge, environment: dict[str, str], tmp_path: Path) -> AsyncIterator[StartWorker]:
    """A function that starts worker processes with small chunks and short leases; none outlives its test."""
    environment |= {
        **ENVIRONMENT,
        "WORKER_LEASE_S": "1",
        "WORKER_CHUNK_START_ROWS": "4",
        "WORKER_CHUNK_MIN_ROWS": "4",
        "WORKER_CHUNK_MAX_ROWS": "4",
    }
    async with AsyncExitStack() as stack:

        async def start() -> ForgedWorker:
            return await stack.enter_async_context(forge.worker(environment, tmp_path / "workers.log"))

        yield start


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    """A client of this test's servers."""
    declared = load_declared(settings)
    async with open_client(settings, REGISTRY, declared.tables) as opened:
        yield opened


def some_batches(rand: random.Random) -> list[list[Row]]:
    """Batches of transfers among all accounts, none of which can be refused for want of money."""

    def asked(key: str) -> Row:
        source, target = rand.sample(ACCOUNTS, 2)
        return row(key, source, target, f"{rand.randint(1, 500)}.{rand.randint(0, 99):02}")

    return [[asked(f"{number}-{at}") for at in range(ROWS)] for number in range(BATCHES)]


async def until_done(database: Database, share: float) -> None:
    """Wait until that share of all transfers is in the books; a run that has failed would be waited for for ever."""
    count = select(func.count()).select_from(TRANSFERS)
    failed = select(RUNS.c.error).where(RUNS.c.status == "failed")
    while True:
        async with database.reading() as connection:
            if (await connection.execute(count)).scalar_one() >= share * BATCHES * ROWS:
                return
            assert (error := (await connection.execute(failed)).scalar()) is None, f"{error}"
        await asyncio.sleep(0.005)


async def kill_some(database: Database, start_worker: StartWorker) -> None:
    """Kill a worker whenever some more transfers are done, and start another in its place."""
    rand = random.Random(f"{SEED} kills")
    workers = [await start_worker() for _ in range(WORKERS)]
    for share in sorted(rand.uniform(0.05, 0.9) for _ in range(KILLS)):
        await until_done(database, share)
        victim = workers.pop(rand.randrange(len(workers)))
        victim.send_signal(signal.SIGKILL)
        assert await victim.ended() == -signal.SIGKILL, victim.tail()
        workers.append(await start_worker())


async def stand_in_the_way(database: Database, deadlocks: Deadlocks) -> None:
    """Some times lock accounts from the last to the first, which is not the order of transfers."""
    rand = random.Random(f"{SEED} deadlocks")
    for share in sorted(rand.uniform(0, 0.7) for _ in range(DEADLOCKS_TRIED)):
        await until_done(database, share)
        await lock_backwards(database, deadlocks)


async def lock_backwards(database: Database, deadlocks: Deadlocks) -> None:
    """Lock the last account, wait until somebody waits for it, then go on to the others: one of the two must yield."""
    async with database.engine.connect() as connection, database.engine.connect() as watcher:
        me = await deadlocks.number_of(connection)
        await connection.execute(select(ACCOUNT).where(ACCOUNT.c.id == ACCOUNTS[-1]).with_for_update())
        while not await deadlocks.is_waited_for(watcher, me):
            await asyncio.sleep(deadlocks.look_s)
        try:
            for name in reversed(ACCOUNTS[:-1]):
                await connection.execute(select(ACCOUNT).where(ACCOUNT.c.id == name).with_for_update())
        except DBAPIError as error:
            if not deadlocks.is_one(error):
                raise


async def some_deadlocks(database: Database, deadlocks: Deadlocks, before: int) -> None:
    """Wait until the server has told that there were any: it takes its time to add up what its sessions have seen."""
    while await deadlocks.count(database) == before:
        await asyncio.sleep(0.05)


async def play(client: Client, database: Database, start_worker: StartWorker, disturb: Disturb) -> None:
    """Forty runs over twenty accounts by three workers that are killed: each key is carried out once."""
    rand = random.Random(f"{SEED} batches")
    print(f"HEAVYLIFT_SEED={SEED}")
    await open_bank(database, dict.fromkeys(ACCOUNTS, 400_000))
    batches = some_batches(rand)
    twice = [rand.sample(rows, len(rows)) for rows in rand.sample(batches, SENT_TWICE)]
    runs = [*batches, *twice]
    rand.shuffle(runs)
    for number, rows in enumerate(runs):
        await client.enqueue("transfer_funds", {"table": "account", "source": {"rows": rows}}, run_id=f"run-{number}")
    await asyncio.gather(kill_some(database, start_worker), disturb())
    records = [await client.wait(f"run-{number}") for number in range(len(runs))]
    assert {record.status for record in records} == {"succeeded"}
    assert sum(record.crashes for record in records) > 0
    expected = dict.fromkeys(ACCOUNTS, Decimal(400_000))
    for asked in (asked for rows in batches for asked in rows):
        expected[str(asked["from_account"])] -= Decimal(str(asked["amount"]))
        expected[str(asked["to_account"])] += Decimal(str(asked["amount"]))
    assert await balances(database) == expected
    counted = {name: sum(record.counters[name] for record in records) for name in ("transfers", "refused", "replayed")}
    assert counted == {"transfers": BATCHES * ROWS, "refused": 0, "replayed": SENT_TWICE * ROWS}
    assert await broken(database) == {}


@pytest.mark.only_on("postgresql", "mariadb", why="SQLite has one writer at a time: nobody waits for each other")
async def test_no_money_is_made_or_lost(
    client: Client, database: Database, start_worker: StartWorker, backend: Backend
) -> None:
    """After kills and deadlocks all money is there, and each transfer is in the books once."""
    deadlocks = DEADLOCKS[backend]
    await deadlocks.find_soon(database)
    before = await deadlocks.count(database)
    await play(client, database, start_worker, lambda: stand_in_the_way(database, deadlocks))
    await some_deadlocks(database, deadlocks, before)


@pytest.mark.only_on("sqlite", why="the others have deadlocks, too")
async def test_no_money_is_made_or_lost_by_one_writer_at_a_time(
    client: Client, database: Database, start_worker: StartWorker
) -> None:
    """After kills of several processes on one file all money is there, and each transfer is in the books once."""
    await play(client, database, start_worker, lambda: asyncio.sleep(0))
