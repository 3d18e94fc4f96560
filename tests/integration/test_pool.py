"""What the pool lends: live connections, with nothing left of their last use."""

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import ManagesConnection

from worker.core.settings import Settings
from worker.database import pool
from worker.database.engine import Database, open_database
from worker.database.pool import watch_pool
from worker.database.postgres.dialect import Postgres
from worker.database.session import fetch, open_session

LIMITS = select(
    *(
        func.current_setting(name)
        for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    )
)
NONE = ("0", "0", "0")


class Deaf(Postgres):
    """A driver that does not hear of a connection's end, as when a server vanishes without a word."""

    def is_open(self, connection: ManagesConnection) -> bool:
        """As far as it has heard."""
        del connection
        return True


async def backend(database: Database) -> int:
    """The server process of the connection that the pool lends."""
    async with database.engine.connect() as connection:
        return int((await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one())


async def hang_up(database: Database, pid: int) -> None:
    """Have the server end a connection, and wait until it has."""
    async with database.engine.connect() as connection:
        assert (await connection.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})).scalar_one()


async def limits(database: Database) -> tuple[object, ...]:
    """The limits in a transaction that has asked for none, on the connection that the pool lends."""
    async with database.engine.connect() as connection:
        return tuple((await connection.execute(LIMITS)).one())


async def test_a_connection_that_the_server_ended_is_not_lent(database: Database, settings: Settings) -> None:
    """What was in use a moment ago and has been ended since is replaced, and its user sees nothing of it."""
    other = open_database(settings, "other")
    gone = await backend(database)
    await hang_up(other, gone)
    assert await backend(database) != gone
    await other.dispose()


async def test_an_idle_connection_that_does_not_answer_is_not_lent(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose end the driver has not heard of is found out by asking, and replaced."""
    monkeypatch.setattr(pool, "TRUSTED_S", 0.0)
    ways = Deaf()
    engine = create_async_engine(database.engine.url, **ways.connection_options(settings, "deaf"))
    watch_pool(engine, ways)
    deaf = Database(engine, ways)
    gone = await backend(deaf)
    await hang_up(database, gone)
    assert await backend(deaf) != gone
    await deaf.dispose()


async def test_limits_hold_in_each_transaction_of_a_run(database: Database, settings: Settings) -> None:
    """A session's transactions have them, one after the other, and a question apart has them too."""
    async with open_session(database, settings) as session:
        for _ in range(2):
            found = tuple((await (await session.connection()).execute(LIMITS)).one())
            assert found == ("2s", "15s", "12s")
            await session.end_transaction()
    (row,) = await fetch(database, settings, LIMITS)
    assert tuple(row) == ("2s", "15s", "12s")


async def test_limits_end_with_the_transaction(database: Database, settings: Settings) -> None:
    """The next one on the same connection has none, however the one before ended."""
    async with open_session(database, settings) as session:
        await (await session.connection()).execute(LIMITS)
        await session.end_transaction()
    assert await limits(database) == NONE
    async with open_session(database, settings) as session:
        await (await session.connection()).execute(LIMITS)
    assert await limits(database) == NONE


async def test_limits_of_a_transaction_that_sent_nothing_are_forgotten(database: Database, settings: Settings) -> None:
    """They were for that transaction, not for whoever is lent its connection next."""
    async with open_session(database, settings) as session:
        await session.connection()
    assert await limits(database) == NONE
