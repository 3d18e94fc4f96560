"""Somebody else on a MariaDB: holds locks, ends sessions, looks on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiomysql
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.database.mysql.driver import WorkerConnection, driver_of

_LOOK_S = 0.12
"""Between two looks, in seconds: what InnoDB shows of transactions stays as it is while it is asked more often."""


class Hand:
    """A plain connection of the driver's, which commits each statement but within `BEGIN` and `COMMIT`.

    Args:
        connection: the driver's.
    """

    def __init__(self, connection: aiomysql.Connection) -> None:
        self._connection = connection

    async def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement; its rows."""
        async with self._connection.cursor() as cursor:
            await cursor.execute(statement)
            return list(await cursor.fetchall())

    async def value(self, statement: str) -> Any:
        """The one value that a query gives."""
        ((found,),) = await self.ask(statement)
        return found

    async def until(self, query: str) -> None:
        """Return when a query's one value is true."""
        async with asyncio.timeout(10):
            while not await self.value(query):
                await asyncio.sleep(_LOOK_S)

    async def until_running(self, session: int, beginning: str) -> None:
        """Return when a session is at a statement that begins so."""
        await self.until(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST "
            f"WHERE ID = {session} AND COMMAND = 'Query' AND INFO LIKE '{beginning}%'"
        )

    async def until_lock_is_awaited(self) -> None:
        """Return when some transaction waits for a row that another has."""
        await self.until("SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT'")

    async def until_gone(self, session: int) -> None:
        """Return when a session has ended."""
        await self.until(f"SELECT COUNT(*) = 0 FROM information_schema.PROCESSLIST WHERE ID = {session}")


@asynccontextmanager
async def hand_on(url: str) -> AsyncIterator[Hand]:
    """A hand on the database of a URL."""
    found = make_url(url)
    connection = await aiomysql.connect(
        host=found.host,
        port=found.port,
        user=found.username,
        password=found.password,
        db=found.database,
        autocommit=True,
    )
    try:
        yield Hand(connection)
    finally:
        connection.close()


async def run_on(url: str, *statements: str) -> None:
    """Run statements, each committed, on the database of a URL."""
    async with hand_on(url) as hand:
        for statement in statements:
            await hand.ask(statement)


async def driver_behind(connection: AsyncConnection) -> WorkerConnection:
    """The driver's connection of an engine's."""
    return driver_of(await connection.get_raw_connection())
