"""How a test has workers meet a deadlock: each server's words for who waits for whom, and how many there have been."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.support.chosen import Backend
from worker.database.engine import Database


@dataclass(frozen=True, slots=True)
class Deadlocks:
    """What one server says of them.

    Attributes:
        me: a query for the number of one's own session.
        waiting: a query for how many wait for session `:me`.
        met: a query whose last column is how many there have been.
        codes: what an error carries by which a transaction is told to yield.
        look_s: how long to wait between two looks, in seconds; a server that is asked more often shows nothing new.
        hasten: a statement after which they are found soon; empty where they are found at once.
    """

    me: str
    waiting: str
    met: str
    codes: frozenset[object]
    look_s: float = 0.005
    hasten: str = ""

    async def find_soon(self, database: Database) -> None:
        """Have the server look for them often, on new connections."""
        if self.hasten:
            async with database.engine.begin() as connection:
                await connection.execute(text(self.hasten.format(database.engine.url.database)))
            await database.engine.dispose()

    async def number_of(self, connection: AsyncConnection) -> object:
        """The number of a connection's session."""
        return (await connection.execute(text(self.me))).scalar_one()

    async def is_waited_for(self, watcher: AsyncConnection, number: object) -> bool:
        """Whether somebody waits for a session."""
        found: int = (await watcher.execute(text(self.waiting), {"me": number})).scalar_one()
        await watcher.rollback()
        return found > 0

    async def count(self, database: Database) -> int:
        """How many there have been."""
        async with database.engine.connect() as connection:
            return int((await connection.execute(text(self.met))).one()[-1])

    def is_one(self, error: DBAPIError) -> bool:
        """Whether an error says that this transaction had to yield."""
        arguments = getattr(error.orig, "args", ())
        return not self.codes.isdisjoint({getattr(error.orig, "sqlstate", None), *arguments[:1]})


DEADLOCKS: Final[Mapping[Backend, Deadlocks]] = {
    "postgresql": Deadlocks(
        "SELECT pg_backend_pid()",
        "SELECT count(*) FROM pg_stat_activity WHERE :me = ANY(pg_blocking_pids(pid))",
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()",
        frozenset({"40P01"}),
        hasten="ALTER DATABASE {} SET deadlock_timeout = '50ms'",
    ),
    "mariadb": Deadlocks(
        "SELECT connection_id()",
        "SELECT count(*) FROM information_schema.innodb_lock_waits JOIN information_schema.innodb_trx"
        " ON trx_id = blocking_trx_id WHERE trx_mysql_thread_id = :me",
        "SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'",
        frozenset({1213}),
        look_s=0.12,
    ),
}
"""By database; SQLite has one writer at a time, so that nobody there can wait for each other."""
