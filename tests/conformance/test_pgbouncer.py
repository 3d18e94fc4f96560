"""Jobs through a PgBouncer in transaction mode, whose few server connections many clients share."""

import asyncio
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import SQLModel, select

from tests.conftest import SHOP, MakeRunner
from tests.support import bank, shop_models
from tests.support.chosen import POSTGRES_VERSIONS
from tests.support.pgbouncer import PgBouncerProcess, pgbouncer_program
from tests.support.postgres_databases import QUICK, fresh_database, older_bin_dir
from tests.support.pressure import session
from tests.support.shop_models import Tally
from tests.support.worker_process import worker_process
from worker import REGISTRY, JobContext, Registry, job, open_client
from worker.core.outcomes import Succeeded
from worker.core.pressure import Indicator, Unread
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database, open_database
from worker.database.migrate import check_version, migrate
from worker.declare.tables import find_tables
from worker.embedded import PostgresProcess
from worker.embedded.programs import postgres_bin_dir
from worker.main import load_declared
from worker.run.runner import Runner

pytestmark = pytest.mark.only_on("postgresql", why="PgBouncer speaks PostgreSQL's protocol only")

SERVER_CONNECTIONS = 3
RUNS = 6
TALLIES = 100
ITEMS = 100
TRANSFERS = 40
ENDED_RUN = """
INSERT INTO heavylift_runs (id, job, queue, params, options, status, enqueued_ms, enqueued_at, finished_at)
VALUES ('ended', 'bulk_upsert', 'arq:queue', '{}', '{}', 'succeeded', 1, now(), now())
"""
OLD_REFUSED = """
INSERT INTO heavylift_quarantine (run_id, chunk, position, reason, payload, created_at)
SELECT 'ended', 1, n, 'odd', '{}', now() - interval '100 days' FROM generate_series(1, 100) AS n
"""
"""Refused rows that are due, for `cleanup`."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Several runs of one job at once, and what they must leave behind.

    Attributes:
        job: its name.
        params: of each run, by its number from 0.
        query: what is looked at in the end.
        answer: the one row that it must give.
    """

    job: str
    params: Callable[[int], dict[str, object]]
    query: str
    answer: tuple[object, ...]


def items(run: int) -> list[dict[str, object]]:
    """Rows of which half are the next run's too."""
    first = run * ITEMS // 2
    return [{"sku": f"k{n:04}", "name": "x", "quantity": n, "price": "1.50"} for n in range(first, first + ITEMS)]


def transfers(run: int) -> list[dict[str, object]]:
    """Transfers among ten accounts."""
    return [bank.row(f"{run}-{n}", f"A{n % 10}", f"A{(n + 1) % 10}", "0.25") for n in range(TRANSFERS)]


DISTINCT_ITEMS = ITEMS + (RUNS - 1) * ITEMS // 2

SCENARIOS = (
    Scenario(
        "bulk_upsert",
        lambda run: {"table": "item", "source": {"rows": items(run)}},
        "SELECT count(*), sum(quantity) FROM item",
        (DISTINCT_ITEMS, sum(range(DISTINCT_ITEMS))),
    ),
    Scenario(
        "batch_update",
        lambda _: {"table": "tally", "where": {"id": {"gt": TALLIES // 2}}, "set": {"value": 7}},
        "SELECT count(*), sum(value) FROM tally",
        (TALLIES, 7 * TALLIES // 2),
    ),
    Scenario(
        "batch_update",
        lambda _: {"table": "tally", "source": {"rows": [{"id": n, "value": n} for n in range(1, TALLIES + 1)]}},
        "SELECT count(*), sum(value) FROM tally WHERE id = value",
        (TALLIES, sum(range(TALLIES + 1))),
    ),
    Scenario(
        "transfer_rows",
        lambda _: {"table": "tally", "where": {"id": {"le": 50}}, "column": "value", "to": 7, "reason": "a test"},
        "SELECT sum(value), (SELECT count(*) FROM heavylift_moves) FROM tally",
        (350, 50),
    ),
    Scenario(
        "chunked_delete",
        lambda run: {"table": "tally", "where": {"id": {"between": [10 * run + 1, 10 * run + 5]}}},
        "SELECT count(*) FROM tally",
        (TALLIES - 5 * RUNS,),
    ),
    Scenario(
        "stream_process",
        lambda _: {"table": "tally", "processor": "one_more"},
        "SELECT count(*), min(value), max(value) FROM tally",
        (TALLIES, RUNS, RUNS),
    ),
    Scenario(
        "export_rows",
        lambda run: {"table": "tally", "uri": f"tallies-{run}.csv.gz"},
        "SELECT count(*), sum(done) FROM heavylift_progress WHERE done > 0",
        (RUNS, RUNS * TALLIES),
    ),
    Scenario(
        "transfer_funds",
        lambda run: {"table": "account", "source": {"rows": transfers(run)}},
        "SELECT sum(balance), (SELECT count(*) FROM heavylift_transfers) FROM account",
        (1000, RUNS * TRANSFERS),
    ),
    Scenario("cleanup", lambda _: {}, "SELECT count(*) FROM heavylift_quarantine", (0,)),
    Scenario("add_one", lambda _: {}, "SELECT count(*), min(value), max(value) FROM tally", (TALLIES, RUNS, RUNS)),
)


@pytest.fixture(scope="module", params=POSTGRES_VERSIONS)
def postgres(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresProcess]:
    """A server that writes down which session each statement came from."""
    bin_dir = older_bin_dir() if request.param == "older" else postgres_bin_dir()
    options = {**QUICK, "log_statement": "all", "log_line_prefix": "%p %d %a|"}
    folder = tmp_path_factory.mktemp("behind") / "server"
    with PostgresProcess(folder, options=options, bin_dir=bin_dir) as process:
        yield process


@pytest.fixture(scope="module")
def bouncer(postgres: PostgresProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PgBouncerProcess]:
    """A PgBouncer before it, with three server connections for each database."""
    folder = tmp_path_factory.mktemp("before") / "pgbouncer"
    with PgBouncerProcess(folder, postgres, pgbouncer_program(), server_connections=SERVER_CONNECTIONS) as process:
        yield process


@pytest.fixture
async def database_url(postgres: PostgresProcess, bouncer: PgBouncerProcess) -> AsyncIterator[str]:
    """An empty database, by way of the PgBouncer."""
    async with fresh_database(postgres.url, "template0") as url:
        yield make_url(url).set(port=bouncer.port).render_as_string(hide_password=False)


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """A worker's settings with a PgBouncer between, and chunks of ten rows."""
    small = {"chunk_start_rows": 10, "chunk_min_rows": 10, "chunk_max_rows": 10}
    return settings.model_copy(update={**small, "pgbouncer": True, "output_dirs": (tmp_path,)})


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    """The same for processes; chunks of two rows."""
    small = {"WORKER_CHUNK_START_ROWS": "2", "WORKER_CHUNK_MIN_ROWS": "2", "WORKER_CHUNK_MAX_ROWS": "2"}
    return {**environment, **small, "WORKER_PGBOUNCER": "true", "WORKER_LEASE_S": "1"}


def with_bank(runner: Runner) -> Runner:
    """A runner that knows the shop's tables and the bank's."""
    return replace(runner, tables=find_tables((shop_models.__name__, bank.BANK), bank.ALLOW))


@pytest.fixture
async def shop(database: Database) -> Database:
    """The database with a ledger, the shop's tables and tallies, all made through the PgBouncer."""
    await migrate(database)
    async with database.engine.begin() as connection:
        await connection.run_sync(SQLModel.metadata.create_all, [model.__table__ for model in SHOP])  # type: ignore[attr-defined]  # SQLModel sets it
        await connection.execute(text(f"INSERT INTO tally SELECT n, 0 FROM generate_series(1, {TALLIES}) AS n"))
        await connection.execute(text(ENDED_RUN))
        await connection.execute(text(OLD_REFUSED))
        await bank.make_accounts(connection, {f"A{number}": 100 for number in range(10)})
    return database


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.job)
async def test_many_runs_over_few_server_connections(
    scenario: Scenario, shop: Database, make_runner: MakeRunner, postgres: PostgresProcess
) -> None:
    """Each run has clients of its own, all take turns on the same connections, and the table is as it should be."""
    runners = {f"r{number}": with_bank(make_runner(f"r{number}")) for number in range(RUNS)}
    deliveries = [
        Delivery(name, scenario.job, scenario.params(number), {}, "arq:queue", 1) for number, name in enumerate(runners)
    ]
    outcomes = await asyncio.gather(*(runners[each.run_id].run(each) for each in deliveries))
    assert [type(outcome) for outcome in outcomes] == [Succeeded] * RUNS
    async with shop.engine.connect() as connection:
        assert tuple((await connection.execute(text(scenario.query))).one()) == scenario.answer
    served = clients_by_connection(postgres, shop.engine.url.database)
    assert len(served) <= SERVER_CONNECTIONS
    # one run after the other would change hands as often as there are runs, on each connection
    assert sum(one != other for clients in served.values() for one, other in pairwise(clients)) > len(served) * RUNS
    await every_server_connection_is_clean(shop)


async def test_a_stream_has_two_server_connections(shop: Database, make_runner: MakeRunner) -> None:
    """A run that streams holds one for its snapshot and writes on another; both are clean when it is over."""
    registry = Registry()

    @job(registry=registry)
    async def read(ctx: JobContext) -> int:
        async for chunk in ctx.stream(select(Tally), key=Tally.id):
            for tally in chunk.rows:
                tally.value += 1
                await ctx.session.merge(tally)
        return ctx.progress.done

    runner = replace(make_runner("reader"), registry=registry)
    assert await runner.run(Delivery("s", "read", {}, {}, "arq:queue", 1)) == Succeeded(TALLIES)
    async with shop.engine.connect() as connection:
        assert (await connection.execute(text("SELECT DISTINCT value FROM tally"))).scalars().all() == [1]
        assert (await connection.execute(text("SHOW transaction_read_only"))).scalar() == "off"
    await every_server_connection_is_clean(shop)


def clients_by_connection(postgres: PostgresProcess, database: str | None) -> dict[str, list[str]]:
    """Whose statement each server connection ran, one after the other, as the server wrote it down."""
    served: dict[str, list[str]] = defaultdict(list)
    for line in log_of(postgres, database):
        if found := re.match(r"(\d+) \w+ heavylift:(\w+)\|LOG:  execute", line):
            served[found[1]].append(found[2])
    return served


def log_of(postgres: PostgresProcess, database: str | None) -> list[str]:
    """The lines that the server wrote about one database, which is one test's own."""
    lines = postgres.folder.log_path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if f" {database} " in line.partition("|")[0]]


async def every_server_connection_is_clean(database: Database) -> None:
    """No prepared statement and no timeout was left on any, for the next client to find."""
    state = text(
        "SELECT pg_backend_pid(), (SELECT count(*) FROM pg_prepared_statements), current_setting('lock_timeout'), "
        "current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout')"
    )
    async with AsyncExitStack() as stack:
        # as many transactions at once as there are server connections: each has one
        found = []
        for _ in range(SERVER_CONNECTIONS):
            connection = await stack.enter_async_context(database.engine.connect())
            found.append(tuple((await connection.execute(state)).one()))
    assert len({pid for pid, *_ in found}) == SERVER_CONNECTIONS
    assert {tuple(rest) for _, *rest in found} == {(0, "0", "0", "0")}


@pytest.mark.parametrize("told", [True, False])
async def test_what_the_setting_is_for(settings: Settings, told: bool) -> None:  # noqa: FBT001 - the parameter of a test
    """Without it a statement that one server connection has prepared is missing on the next one."""
    chosen = settings.model_copy(update={"pgbouncer": told})
    ours, others = open_database(chosen, "ours"), open_database(chosen, "others")

    async def again_on_another_connection() -> tuple[int, int]:
        async with ours.engine.connect() as connection, others.engine.connect() as neighbour:
            first = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            await connection.commit()
            # the neighbour is given the server connection that was used last, and keeps it
            await neighbour.execute(text("SELECT 1"))
            return first, (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()

    if told:
        first, second = await again_on_another_connection()
        assert first != second
    else:
        with pytest.raises(DBAPIError) as caught:
            await again_on_another_connection()
        assert ours.dialect.errors.code_of(caught.value.orig or caught.value) == "26000"
    await ours.dispose()
    await others.dispose()


async def test_no_transaction_begins_with_a_useless_set(settings: Settings, postgres: PostgresProcess) -> None:
    """A client's encoding is spelled as the server spells it, so that PgBouncer has nothing to put right."""
    database = open_database(settings, "spelling")
    for _ in range(3):
        async with database.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    await database.dispose()
    lines = log_of(postgres, database.engine.url.database)
    assert any("heavylift:spelling|LOG:  execute" in line for line in lines)
    assert [line for line in lines if "client_encoding" in line] == []


async def test_the_governor_reads_through_it(shop: Database) -> None:
    """Every indicator can be read, and the worker knows its own backends by their name."""
    async with shop.engine.connect() as connection:
        found = await shop.dialect.read_pressure(connection, list(Indicator))
    assert [type(one) for one in found if isinstance(one, Unread)] == []
    assert len(found) == len(Indicator)


async def test_a_cancelled_statement_ends_on_the_server(shop: Database, postgres: PostgresProcess) -> None:
    """What a run no longer waits for does not go on behind the PgBouncer's back."""

    async def sleep() -> None:
        async with shop.engine.connect() as connection:
            await connection.execute(text("SELECT pg_sleep(3600)"))

    sleeping = asyncio.create_task(sleep())
    async with session(postgres.url) as watching:
        asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        while await watching.fetchval(asleep) == 0:
            await asyncio.sleep(0.01)
        sleeping.cancel()
        await asyncio.gather(sleeping, return_exceptions=True)
        while await watching.fetchval(asleep) > 0:
            await asyncio.sleep(0.01)


async def test_migrate_goes_through_it(environment: dict[str, str], database: Database) -> None:
    """`heavylift migrate` makes the ledger in one transaction, like any other client's."""
    command = [sys.executable, "-m", "worker.cli", "migrate"]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    await check_version(database)


@pytest.mark.chaos
async def test_a_killed_run_is_resumed(
    shop: Database, settings: Settings, environment: dict[str, str], tmp_path: Path
) -> None:
    """Killed in mid-run twice, it goes on from its cursor behind the same PgBouncer, and each row is done once."""
    load_declared(settings)
    async with open_client(settings, REGISTRY) as client:
        await client.enqueue("add_one", {"pause_s": 0.05}, run_id="killed")
        for done in (10, 50):
            # killed at the end of the block
            with worker_process(environment, tmp_path / "workers.log"):
                await until_done(lambda: client.get("killed"), done)
        with worker_process(environment, tmp_path / "workers.log"):
            record = await client.wait("killed")
    assert (record.status, record.attempts, record.crashes) == ("succeeded", 1, 2)
    async with shop.engine.connect() as connection:
        values = (await connection.execute(text("SELECT value FROM tally"))).scalars()
        assert list(values) == [1] * TALLIES


async def until_done(read: Callable[[], Awaitable[object]], done: int) -> None:
    """Wait until the run has done so many rows."""
    while getattr(await read(), "done", 0) < done:
        await asyncio.sleep(0.01)
