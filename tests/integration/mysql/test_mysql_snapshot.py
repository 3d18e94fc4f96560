"""Streams from a MariaDB: from one moment, in bounded memory, and given up in the middle without reading the rest."""

import asyncio
import tracemalloc

import pytest
from sqlalchemy import BigInteger, Column, MetaData, String, Table, select, text

from tests.support.mariadb_hand import driver_behind, hand_on, run_on
from worker.core.errors import ErrorKind
from worker.core.settings import Settings
from worker.database.classify import DATABASE_ERRORS, classify
from worker.database.engine import Database
from worker.database.mysql.errors import MYSQL_ERRORS
from worker.database.snapshot import open_snapshot

ROWS = 60_000
THING = Table("thing", MetaData(), Column("id", BigInteger, primary_key=True), Column("body", String(500)))
ORDERED = select(THING).order_by(THING.c.id)


@pytest.fixture
async def things(own_url: str) -> None:
    """A table of some 36 MB."""
    await run_on(
        own_url,
        "CREATE TABLE thing (id bigint PRIMARY KEY, body varchar(500)) ENGINE=InnoDB CHARACTER SET latin1",
        f"INSERT INTO thing SELECT seq, REPEAT('x', 300) FROM seq_1_to_{ROWS}",
    )


async def test_a_stream_is_read_in_bounded_memory(database: Database, settings: Settings, things: None) -> None:
    """All rows come, in order; what the client holds does not grow with the table."""
    del things
    seen = 0
    tracemalloc.start()
    try:
        async with open_snapshot(database, settings) as snapshot:
            while rows := await snapshot.fetch(ORDERED, 2000):
                assert rows[0].id == seen + 1
                seen += len(rows)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == ROWS
    assert most < 8 * 1024 * 1024


async def test_a_stream_sees_one_moment(database: Database, settings: Settings, things: None, own_url: str) -> None:
    """That of the first question, whatever is committed meanwhile."""
    del things
    async with open_snapshot(database, settings) as snapshot:
        await (await snapshot.connection()).execute(text("SELECT 1"))
        await run_on(own_url, "DELETE FROM thing WHERE id > 5")
        assert len(await snapshot.fetch(ORDERED, 100)) == 100


async def test_a_stream_that_is_given_up_is_not_read_to_its_end(
    database: Database, settings: Settings, things: None, own_url: str
) -> None:
    """Its connection is closed, the server stops, and the pool has another one for the next."""
    del things
    async with open_snapshot(database, settings) as snapshot:
        assert len(await snapshot.fetch(ORDERED, 10)) == 10
        session = (await driver_behind(await snapshot.connection())).server_id
        before = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - before < 0.5
    async with hand_on(own_url) as hand:
        await hand.until_gone(session)
    async with database.engine.connect() as connection:
        assert (await connection.execute(text("SELECT @@tx_isolation"))).scalar_one() == "READ-COMMITTED"
        assert database.engine.pool.status()


async def test_a_stream_that_is_read_to_its_end_leaves_its_connection(
    database: Database, settings: Settings, things: None
) -> None:
    """It goes back to the pool, and its next transaction is like any other."""
    del things
    few = ORDERED.limit(50)
    async with open_snapshot(database, settings) as snapshot:
        assert len(await snapshot.fetch(few, 100)) == 50
        assert len(await snapshot.fetch(few, 100)) == 0
        session = (await driver_behind(await snapshot.connection())).server_id
    async with database.engine.connect() as connection:
        assert (await driver_behind(connection)).server_id == session
        found = await connection.execute(
            text("SELECT @@tx_isolation, @@net_write_timeout = @@global.net_write_timeout")
        )
        assert found.one() == ("READ-COMMITTED", 1)
        await connection.execute(text("DELETE FROM thing WHERE id = 1"))


async def test_a_stream_outlasts_the_limit_for_statements(database: Database, settings: Settings, things: None) -> None:
    """It is one statement, however slowly it is read: only a fetch has a limit."""
    del things
    limited = settings.model_copy(update={"statement_timeout_ms": 1000})
    async with open_snapshot(database, limited) as snapshot:
        assert len(await snapshot.fetch(ORDERED, 10)) == 10
        await asyncio.sleep(1.5)
        assert len(await snapshot.fetch(ORDERED, 20_000)) == 20_000


async def test_a_lost_stream_is_a_lost_connection(
    database: Database, settings: Settings, things: None, own_url: str
) -> None:
    """And closing it is no further failure."""
    del things
    async with open_snapshot(database, settings) as snapshot:
        await snapshot.fetch(ORDERED, 10)
        session = (await driver_behind(await snapshot.connection())).server_id
        await run_on(own_url, f"KILL CONNECTION {session}")
        with pytest.raises(DATABASE_ERRORS) as caught:
            await snapshot.fetch(ORDERED, ROWS)
    assert classify(caught.value, MYSQL_ERRORS) is ErrorKind.CONNECTION


async def test_a_cancelled_fetch_gives_its_connection_up(database: Database, settings: Settings, things: None) -> None:
    """Nobody else reads what it left."""
    del things

    async def read() -> None:
        async with open_snapshot(database, settings) as snapshot:
            while await snapshot.fetch(ORDERED, 1000):
                pass

    for pause in (0.01, 0.05, 0.2):
        task = asyncio.create_task(read())
        await asyncio.sleep(pause)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with database.engine.connect() as connection:
            assert (await connection.execute(text("SELECT 7"))).scalar_one() == 7


async def test_a_run_may_stream_in_its_own_transaction(database: Database, things: None) -> None:
    """There, what is left of a stream is read, for the transaction goes on."""
    del things
    async with database.engine.begin() as connection:
        await connection.execute(text("DELETE FROM thing WHERE id > 1000"))
        async with connection.stream(ORDERED) as result:
            assert len(await result.fetchmany(10)) == 10
        await connection.execute(text("DELETE FROM thing WHERE id > 10"))
    async with database.engine.connect() as connection:
        assert (await connection.execute(text("SELECT COUNT(*) FROM thing"))).scalar_one() == 10
