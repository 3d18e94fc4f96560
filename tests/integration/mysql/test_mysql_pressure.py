"""What a real MariaDB says of the pressure that it is under."""

import asyncio

from pydantic import SecretStr
from sqlalchemy import make_url, text

from tests.support.mariadb_hand import hand_on, run_on
from worker.core.pressure import Connections, Indicator, LockWaiters, Unread
from worker.core.settings import Settings
from worker.database.engine import Database, open_database


async def test_sessions_behind_this_workers_locks_are_counted(database: Database, own_url: str) -> None:
    """Those of others, once each."""
    await run_on(own_url, "CREATE TABLE thing (id integer PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO thing VALUES (1)")
    async with database.engine.connect() as holder, database.engine.connect() as asking:
        await holder.execute(text("SELECT * FROM thing FOR UPDATE"))
        assert await database.dialect.read_pressure(asking, [Indicator.LOCKS]) == [LockWaiters(0)]
        async with hand_on(own_url) as waiter, hand_on(own_url) as onlooker:
            waiting = asyncio.create_task(waiter.ask("SELECT * FROM thing FOR UPDATE"))
            await onlooker.until_lock_is_awaited()
            assert await database.dialect.read_pressure(asking, [Indicator.LOCKS]) == [LockWaiters(1)]
            await holder.rollback()
            await waiting


async def test_connections_are_counted_but_for_this_workers_idle_ones(database: Database, own_url: str) -> None:
    """To hold its runs would not free those."""
    async with hand_on(own_url) as somebody:
        most = await somebody.value("SELECT @@max_connections")
        async with database.engine.connect() as asking:
            (alone,) = await database.dialect.read_pressure(asking, [Indicator.CONNECTIONS])
            async with database.engine.connect() as idle, database.engine.connect() as busy:
                await idle.execute(text("SELECT 1"))
                await idle.commit()
                await busy.execute(text("SELECT 1"))
                (more,) = await database.dialect.read_pressure(asking, [Indicator.CONNECTIONS])
    assert isinstance(alone, Connections)
    assert isinstance(more, Connections)
    assert (more.used - alone.used, more.usable) == (1, most)


async def test_what_this_database_has_not_is_passed_over(database: Database) -> None:
    """Vacuums, an archive of its log, and how far a primary's replicas are behind."""
    async with database.engine.connect() as asking:
        found = await database.dialect.read_pressure(asking, tuple(Indicator))
    assert [one.indicator for one in found] == [Indicator.LOCKS, Indicator.CONNECTIONS]


async def test_an_indicator_that_the_user_may_not_read_leaves_the_others(own_url: str) -> None:
    """It is left out for good, and says why."""
    name = make_url(own_url).database
    await run_on(own_url, "CREATE USER plain@'%' IDENTIFIED BY 'p'", f"GRANT ALL ON {name}.* TO plain@'%'")
    url = make_url(own_url).set(username="plain", password="p").render_as_string(hide_password=False)
    database = open_database(Settings(database_url=SecretStr(url)), "plain")
    try:
        async with database.engine.connect() as asking:
            locks, connections = await database.dialect.read_pressure(asking, tuple(Indicator))
    finally:
        await database.dispose()
        await run_on(own_url, "DROP USER plain@'%'")
    assert isinstance(locks, Unread)
    assert locks.for_good
    assert "PROCESS" in locks.error
    assert isinstance(connections, Connections)
