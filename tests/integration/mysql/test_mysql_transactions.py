"""What a worker's transactions on MariaDB begin with, and what is left of them, however they end."""

import asyncio
import random
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text

from tests.support.mariadb_hand import driver_behind, hand_on, run_on
from worker.core.errors import ErrorKind
from worker.core.settings import Settings
from worker.database.classify import DATABASE_ERRORS, classify
from worker.database.engine import Database
from worker.database.mysql.driver import WorkerConnection
from worker.database.mysql.errors import MYSQL_ERRORS, number_of
from worker.database.session import carry_out, fetch

LIMITS = text(
    "SELECT @@innodb_lock_wait_timeout, @@lock_wait_timeout, @@max_statement_time, @@idle_transaction_timeout"
)
READ_ONLY_TRANSACTION = 1792


@pytest.fixture
async def table(own_url: str) -> None:
    """Two rows to change."""
    await run_on(
        own_url, "CREATE TABLE thing (id integer PRIMARY KEY, value integer)", "INSERT INTO thing VALUES (1,1)"
    )


@pytest.fixture
def packets(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is sent to the server in a packet of its own, in order."""
    sent: list[bytes] = []
    plain = WorkerConnection._execute_command

    async def noted(self: WorkerConnection, command: int, sql: Any) -> None:
        sent.append(sql if isinstance(sql, bytes) else sql.encode())
        await plain(self, command, sql)

    monkeypatch.setattr(WorkerConnection, "_execute_command", noted)
    return sent


async def test_limits_hold_for_the_transaction_alone(database: Database, settings: Settings) -> None:
    """Locks are waited for in whole seconds, the server's own values come back with the next transaction."""
    async with database.engine.connect() as connection:
        own = (await connection.execute(LIMITS)).one()
        await connection.commit()
        async with connection.begin():
            await connection.run_sync(database.dialect.set_limits, settings)
            assert (await connection.execute(LIMITS)).one() == (1, 1, 5.0, settings.idle_timeout_ms // 1000)
        assert (await connection.execute(LIMITS)).one() == own


async def test_limits_of_a_transaction_that_sent_nothing_are_forgotten(database: Database, settings: Settings) -> None:
    """They are not the next one's, on the same connection."""
    async with database.engine.connect() as connection:
        own = (await connection.execute(LIMITS)).one()
        await connection.commit()
        async with connection.begin():
            await connection.run_sync(database.dialect.set_limits, settings)
        assert (await connection.execute(LIMITS)).one() == own


async def test_limits_travel_with_the_first_statement_and_only_where_they_change(
    database: Database, settings: Settings, table: None, packets: list[bytes]
) -> None:
    """A transaction is its statements and COMMIT, and one that is like the last says nothing of limits."""
    del table
    await carry_out(database, settings, lambda connection: connection.execute(text("SELECT 1")).scalar_one())
    packets.clear()
    await carry_out(database, settings, lambda connection: connection.execute(text("SELECT 2")).scalar_one())
    assert packets == [b"SELECT 2", b"COMMIT"]


async def test_reading_costs_no_round_trips_more(
    database: Database, settings: Settings, packets: list[bytes], table: None
) -> None:
    """That a transaction only reads is said in the packet of its first statement."""
    del table
    await fetch(database, settings, text("SELECT 1").columns())  # type: ignore[arg-type]  # any statement with rows
    packets.clear()
    await fetch(database, settings, text("SELECT 2").columns())  # type: ignore[arg-type]  # any statement with rows
    assert packets == [b"START TRANSACTION READ ONLY; SELECT 2", b"COMMIT"]


async def test_a_transaction_that_only_reads_cannot_write(database: Database, table: None) -> None:
    """Whatever it is asked to."""
    del table
    async with database.reading() as connection:
        with pytest.raises(DATABASE_ERRORS) as caught:
            await connection.execute(text("DELETE FROM thing"))
    assert number_of(getattr(caught.value, "orig", None)) == READ_ONLY_TRANSACTION


async def test_the_session_is_what_a_worker_relies_on(database: Database) -> None:
    """Whatever the server's own settings are."""
    async with database.engine.connect() as connection:
        found = await connection.execute(text("SELECT @@tx_isolation, @@time_zone, @@autocommit, @@sql_mode"))
        isolation, zone, autocommit, modes = found.one()
    assert (isolation, zone, autocommit) == ("READ-COMMITTED", "+00:00", 0)
    assert {"STRICT_ALL_TABLES", "NO_ZERO_DATE", "NO_AUTO_VALUE_ON_ZERO"} <= set(modes.split(","))


async def test_a_connection_that_the_server_ended_is_not_lent(database: Database, own_url: str) -> None:
    """What the driver has heard of its end costs nothing to know."""
    async with database.engine.connect() as connection:
        first = await driver_behind(connection)
        await connection.execute(text("SELECT 1"))
    async with hand_on(own_url) as hand:
        await hand.ask(f"KILL CONNECTION {first.server_id}")
        await hand.until_gone(first.server_id)
    async with database.engine.connect() as connection:
        assert (await driver_behind(connection)).server_id != first.server_id
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1


async def test_on_mysql_a_limit_for_idle_transactions_ends_with_them(database: Database, own_url: str) -> None:
    """Its wait_timeout is for idle connections, too: it is taken back in the packet of COMMIT."""
    async with database.engine.connect() as connection:
        async with connection.begin():
            driver = await driver_behind(connection)
            driver.brief = {"wait_timeout": "1"}
            assert (await connection.execute(text("SELECT @@wait_timeout"))).scalar_one() == 1
        async with hand_on(own_url) as hand:
            own = await hand.value("SELECT @@wait_timeout")
        assert (await connection.execute(text("SELECT @@wait_timeout"))).scalar_one() == own
        await connection.rollback()
        await connection.begin()
        driver.brief = {"wait_timeout": "1"}
        await connection.execute(text("SELECT 1"))
        async with hand_on(own_url) as hand:
            await hand.until_gone(driver.server_id)
        with pytest.raises(DATABASE_ERRORS) as caught:
            await connection.execute(text("SELECT 1"))
    assert classify(caught.value, MYSQL_ERRORS) is ErrorKind.CONNECTION


async def test_cancelled_at_random_moments(database: Database, settings: Settings, own_url: str) -> None:
    """Whatever a cancelled transaction was at, all of it is kept or nothing, and no connection is used half-read."""
    await run_on(
        own_url,
        "CREATE TABLE pair (id integer, side integer, body varchar(2000), PRIMARY KEY (id, side)) ENGINE=InnoDB",
    )
    rand = random.Random(4)
    body = "x" * 2000

    async def write(number: int) -> None:
        async with database.engine.connect() as connection, connection.begin():
            await connection.run_sync(database.dialect.set_limits, settings)
            await connection.execute(text("INSERT INTO pair VALUES (:id, 1, :body)"), {"id": number, "body": body})
            # an answer that does not come in one piece
            rows = await connection.execute(text("SELECT REPEAT(body, 400), :id FROM pair LIMIT 3"), {"id": number})
            assert {row[1] for row in rows} == {number}
            async with connection.begin_nested():
                await connection.execute(text("INSERT INTO pair VALUES (:id, 2, :body)"), {"id": number, "body": body})

    async def time_of_one() -> float:
        before = asyncio.get_running_loop().time()
        await write(-1)
        return asyncio.get_running_loop().time() - before

    await write(-2)
    usual = await time_of_one()
    done = 0
    for number in range(150):
        task = asyncio.create_task(write(number))
        await asyncio.sleep(rand.random() * usual * 1.2)
        done += not task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    async with database.engine.connect() as connection:
        counted = text("SELECT n, COUNT(*) FROM (SELECT COUNT(*) AS n FROM pair GROUP BY id) AS g GROUP BY n")
        sizes = {row[0]: row[1] for row in await connection.execute(counted)}
    assert set(sizes) == {2}
    assert done <= sizes[2] - 2 < 150


async def test_what_a_cancelled_statement_did_is_undone_when_its_time_is_up(
    database: Database, settings: Settings, own_url: str, table: None
) -> None:
    """A server does not hear that nobody waits any more; the limit ends what is under way, and nothing is kept."""
    del table
    limited = settings.model_copy(update={"statement_timeout_ms": 1000})
    async with hand_on(own_url) as hand:

        async def update() -> None:
            async with database.engine.begin() as connection:
                await connection.run_sync(database.dialect.set_limits, limited)
                await connection.execute(text("UPDATE thing SET value = 2"))
                await connection.execute(text("SELECT SLEEP(60)"))

        task = asyncio.create_task(update())
        await hand.until("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT SLEEP%'")
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await hand.until("SELECT COUNT(*) = 0 FROM information_schema.INNODB_TRX")
        assert await hand.value("SELECT value FROM thing") == 1


async def test_a_connection_is_opened_with_one_packet_of_settings(database: Database, packets: list[bytes]) -> None:
    """Beside the handshake and what SQLAlchemy has to say."""
    async with database.engine.connect() as one:
        packets.clear()
        async with database.engine.connect() as other:
            await other.execute(text("SELECT 1"))
        await one.rollback()
    opening, *statements = packets
    assert opening.startswith(b"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    assert statements == [b"SET NAMES utf8mb4", b"SELECT 1", b"ROLLBACK"]
