"""How a test sees that somebody waits for a lock, in the database or before it.

Owns the look. Refuses to say who waits: the tests have one waiter.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from sqlalchemy import event, text

from tests.support.chosen import Backend
from worker.database.engine import Database

_WAITING: Final = {
    "postgresql": "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    # of the whole server, which is the tests' own: the view of transactions is not made anew while somebody polls it
    "mariadb": (
        "SELECT 1 FROM information_schema.global_status "
        "WHERE variable_name = 'INNODB_ROW_LOCK_CURRENT_WAITS' AND variable_value > 0"
    ),
}


@asynccontextmanager
async def until_somebody_waits(database: Database, backend: Backend) -> AsyncIterator[None]:
    """A block in which a statement is begun that has to wait for a lock; it ends when that one waits.

    SQLite has one lock for all who write, and tells nobody who waits for it: there the block ends when somebody has
    taken a connection, whose transaction asks for the lock first of all.
    """
    if backend == "sqlite":
        async with _until_somebody_connects(database):
            yield
        return
    yield
    query = text(_WAITING[backend])
    async with database.engine.connect() as connection:
        while (await connection.execute(query)).first() is None:
            await connection.rollback()
            await asyncio.sleep(0.01)


@asynccontextmanager
async def _until_somebody_connects(database: Database) -> AsyncIterator[None]:
    connected = asyncio.Event()

    def see(*_: object) -> None:
        connected.set()

    event.listen(database.engine.sync_engine, "checkout", see)
    try:
        yield
        await connected.wait()
    finally:
        event.remove(database.engine.sync_engine, "checkout", see)
