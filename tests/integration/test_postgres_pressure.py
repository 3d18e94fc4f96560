"""What is read of the pressure on a PostgreSQL, the newest and an older one, under pressure that is really there."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from tests.support.chosen import POSTGRES_VERSIONS
from tests.support.postgres_databases import older_bin_dir
from tests.support.pressure import lock_waiters, plain_url, session, until, vacuum
from worker.core.pressure import (
    Connections,
    Indicator,
    LockWaiters,
    Measure,
    ReplicaLag,
    Unread,
    Vacuums,
    WalBacklog,
)
from worker.core.settings import Settings
from worker.database.engine import Database, open_database
from worker.embedded import PostgresProcess
from worker.embedded.programs import postgres_bin_dir

WORKER = "me"
OURS = f"heavylift:{WORKER}"
USABLE = 27
"""The server's connections, less three that are reserved for superusers."""

OPTIONS = {
    "fsync": "off",
    "autovacuum": "off",
    "max_connections": "30",
    "archive_mode": "on",
    "archive_command": "false",
}


@pytest.fixture(scope="module", params=POSTGRES_VERSIONS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresProcess]:
    """A server with few connections and an archive that takes nothing."""
    folder = tmp_path_factory.mktemp("pressed") / "server"
    bin_dir = older_bin_dir() if request.param == "older" else postgres_bin_dir()
    with PostgresProcess(folder, options=OPTIONS, bin_dir=bin_dir) as process:
        yield process


@pytest.fixture
async def database(server: PostgresProcess) -> AsyncIterator[Database]:
    """The server as a worker called `me` sees it."""
    opened = open_database(Settings(database_url=SecretStr(server.url)), WORKER)
    await until(lambda: nobody_else(opened))
    yield opened
    await opened.dispose()


async def nobody_else(database: Database) -> bool:
    """Whether the sessions of earlier tests are gone, those of the worker itself apart."""
    async with database.engine.connect() as connection:
        others = await connection.exec_driver_sql(
            f"SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL AND application_name <> '{OURS}'"
        )
        return bool(others.scalar_one() == 0)


async def read(database: Database, *indicators: Indicator) -> list[Measure | Unread]:
    """What the indicators say now."""
    async with database.engine.connect() as connection:
        return await database.dialect.read_pressure(connection, indicators)


async def make_role(server: PostgresProcess, name: str) -> str:
    """The server's URL for an ordinary role, made where it is not there."""
    async with session(server.url) as connection:
        if not await connection.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = $1", name):
            await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    return make_url(server.url).set(username=name, password="x").render_as_string(hide_password=False)


async def test_others_behind_this_workers_locks_are_counted(server: PostgresProcess, database: Database) -> None:
    """Each session that waits for a lock of the worker's is one, and none is left when it lets go."""
    async with lock_waiters(server.url, holder=OURS, sessions=3):
        assert await read(database, Indicator.LOCKS) == [LockWaiters(3)]
    await until(lambda: nobody_waits(database))


async def nobody_waits(database: Database) -> bool:
    """Whether no session waits behind the worker's locks."""
    return await read(database, Indicator.LOCKS) == [LockWaiters(0)]


@pytest.mark.parametrize(("holder", "waiter"), [("somebody", "a neighbour"), (OURS, OURS)])
async def test_waiters_that_are_not_this_workers_doing_do_not_count(
    server: PostgresProcess, database: Database, holder: str, waiter: str
) -> None:
    """Not those behind somebody else's locks, and not this worker's own runs behind each other."""
    async with lock_waiters(server.url, holder=holder, waiter=waiter):
        assert await read(database, Indicator.LOCKS) == [LockWaiters(0)]


async def test_connections_in_use_are_counted_against_those_for_clients(
    server: PostgresProcess, database: Database
) -> None:
    """Each neighbour's connection counts, idle or not; of this worker's own only those at work do."""
    (before,) = await read(database, Indicator.CONNECTIONS)
    assert isinstance(before, Connections)
    assert before.usable == USABLE
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(session(server.url))
        for _ in range(3):
            await stack.enter_async_context(session(server.url, OURS))
        ours = await stack.enter_async_context(session(server.url, OURS))
        await ours.execute("BEGIN")
        assert await read(database, Indicator.CONNECTIONS) == [Connections(before.used + 5, USABLE)]


@pytest.mark.usefixtures("database")
async def test_an_ordinary_role_counts_sessions_and_waiters_too(server: PostgresProcess) -> None:
    """What kind others' sessions are is hidden from an ordinary role; that they are there, and wait, is not."""
    ordinary = open_database(Settings(database_url=SecretStr(await make_role(server, "plain"))), WORKER)
    await until(lambda: nobody_else(ordinary))
    (before,) = await read(ordinary, Indicator.CONNECTIONS)
    assert isinstance(before, Connections)
    async with lock_waiters(server.url, holder=OURS, sessions=2):
        seen = await read(ordinary, Indicator.LOCKS, Indicator.CONNECTIONS)
    await ordinary.dispose()
    assert seen == [LockWaiters(2), Connections(before.used + 3, USABLE)]


async def test_a_vacuum_is_seen_by_every_name_of_its_table(server: PostgresProcess, database: Database) -> None:
    """By the bare name where the search path finds it, by the qualified one, and by the name of the whole table."""
    async with session(server.url) as connection:
        await connection.execute(
            "CREATE SCHEMA shop; CREATE TABLE events (id int) PARTITION BY RANGE (id);"
            "CREATE TABLE shop.events_1 PARTITION OF events FOR VALUES FROM (0) TO (1000000);"
            "INSERT INTO events SELECT n FROM generate_series(1, 50000) AS n; DELETE FROM events WHERE id % 2 = 0"
        )
    assert await read(database, Indicator.VACUUM) == [Vacuums(frozenset())]
    ordinary = open_database(Settings(database_url=SecretStr(await make_role(server, "plain"))), WORKER)
    async with vacuum(server.url, "shop.events_1"):
        seen = [Vacuums(frozenset({"shop.events_1", "public.events", "events"}))]
        assert await read(database, Indicator.VACUUM) == seen
        assert await read(ordinary, Indicator.VACUUM) == seen
    await ordinary.dispose()


async def test_a_vacuum_in_another_database_is_not_seen(server: PostgresProcess, database: Database) -> None:
    """Its tables may bear the same names and are none of the worker's business."""
    async with session(server.url) as connection:
        await connection.execute("CREATE DATABASE elsewhere")
    other = make_url(server.url).set(database="elsewhere").render_as_string(hide_password=False)
    async with session(other) as connection:
        await connection.execute("CREATE TABLE big AS SELECT n FROM generate_series(1, 50000) AS n")
    async with vacuum(other, "big"):
        assert await read(database, Indicator.VACUUM) == [Vacuums(frozenset())]


async def test_segments_that_wait_to_be_archived_are_counted(server: PostgresProcess, database: Database) -> None:
    """Every segment that is finished and not archived is one."""
    (before,) = await read(database, Indicator.WAL_ARCHIVE)
    assert isinstance(before, WalBacklog)
    async with session(server.url) as connection:
        for _ in range(3):
            await connection.execute("SELECT txid_current()")
            await connection.execute("SELECT pg_switch_wal()")
    assert await read(database, Indicator.WAL_ARCHIVE) == [WalBacklog(before.segments + 3)]


async def test_without_the_right_to_read_one_indicator_the_others_are_read(server: PostgresProcess) -> None:
    """The one that is refused says so, for good and in the server's words, wherever in the order it stands."""
    ordinary = open_database(Settings(database_url=SecretStr(await make_role(server, "plain"))), WORKER)
    refused, waiters, vacuums = await read(ordinary, Indicator.WAL_ARCHIVE, Indicator.LOCKS, Indicator.VACUUM)
    await ordinary.dispose()
    assert isinstance(refused, Unread)
    assert (refused.indicator, refused.for_good) == (Indicator.WAL_ARCHIVE, True)
    assert "permission denied for function pg_ls_archive_statusdir" in refused.error
    assert (waiters, vacuums) == (LockWaiters(0), Vacuums(frozenset()))


async def test_what_takes_too_long_is_given_up_alone_and_not_for_good(
    server: PostgresProcess, database: Database
) -> None:
    """A query that hangs on a locked catalogue ends by its own timeout; those before and after it are read."""
    async with database.engine.connect() as connection, session(server.url) as blocking:
        # what the other two need of the catalogue is known to this connection
        wanted = [Indicator.LOCKS, Indicator.VACUUM, Indicator.REPLICAS]
        await database.dialect.read_pressure(connection, wanted)
        await blocking.execute("BEGIN; LOCK TABLE pg_catalog.pg_namespace IN ACCESS EXCLUSIVE MODE")
        before, slow, after = await database.dialect.read_pressure(connection, wanted)
    assert isinstance(slow, Unread)
    assert (slow.indicator, slow.for_good) == (Indicator.VACUUM, False)
    assert "QueryCanceledError" in slow.error
    assert (before, after) == (LockWaiters(0), ReplicaLag(0.0))


async def test_no_limit_outlives_the_look(database: Database) -> None:
    """The timeout is the transaction's own: the pooled connection comes back without it."""
    async with database.engine.connect() as connection:
        await database.dialect.read_pressure(connection, [Indicator.LOCKS])
        assert (await connection.exec_driver_sql("SHOW statement_timeout")).scalar_one() == "0"


@contextmanager
def standby(server: PostgresProcess, folder: Path) -> Iterator[PostgresProcess]:
    """A replica of the server that replays what it receives a quarter of an hour late."""
    bin_dir = server._bin_dir
    process = PostgresProcess(folder, options={**OPTIONS, "recovery_min_apply_delay": "15min"}, bin_dir=bin_dir)
    process.folder.make()
    cluster = process._home()
    copy = f"{bin_dir}/pg_basebackup --checkpoint fast --write-recovery-conf --no-sync".split()
    subprocess.run([*copy, "--pgdata", str(cluster), "--dbname", server.url], check=True)
    if os.geteuid() == 0:
        owner = server._home().stat()
        for path in [cluster, *cluster.rglob("*")]:
            shutil.chown(path, owner.st_uid, owner.st_gid)
    with process:
        yield process


async def test_the_lag_of_a_replica_is_seen_by_those_who_may(
    server: PostgresProcess, database: Database, tmp_path: Path
) -> None:
    """A replica that falls behind shows in seconds; an ordinary role is told what it lacks, once there is a replica."""
    ordinary = open_database(Settings(database_url=SecretStr(await make_role(server, "plain"))), WORKER)
    assert await read(ordinary, Indicator.REPLICAS) == [ReplicaLag(0.0)]
    replica = standby(server, tmp_path / "standby")
    await asyncio.to_thread(replica.__enter__)
    try:
        await until(lambda: is_behind(server, database))
        (refused,) = await read(ordinary, Indicator.REPLICAS)
    finally:
        await asyncio.to_thread(replica.__exit__, None, None, None)
    await ordinary.dispose()
    assert isinstance(refused, Unread)
    assert refused.for_good
    assert "pg_monitor" in refused.error


async def is_behind(server: PostgresProcess, database: Database) -> bool:
    """Write something, and tell whether a replica is seen to be more than a second behind."""
    connection = await asyncpg.connect(plain_url(server.url))
    await connection.execute("SELECT txid_current()")
    await connection.close()
    (lag,) = await read(database, Indicator.REPLICAS)
    return isinstance(lag, ReplicaLag) and lag.seconds > 1
