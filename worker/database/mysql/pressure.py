"""What MariaDB and MySQL tell of the pressure they are under: one short query an indicator.

Passed over are what these servers have not (vacuums, an archive of WAL) and what a primary does not know: how far its
replicas are behind. Refuses to judge what is much.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from sqlalchemy import bindparam, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.pressure import Connections, Indicator, LockWaiters, Measure, Unread
from worker.database.classify import describe
from worker.database.mysql.driver import WorkerConnection, driver_of
from worker.database.mysql.errors import MYSQL_ERRORS, number_of

STATEMENT_MS: Final = 1000
"""How long one indicator may take, in milliseconds: a server that is slower at this is under pressure."""

_NOT_HERE: Final = frozenset({1044, 1045, 1109, 1142, 1143, 1146, 1193, 1227, 1356, 1370})
"""Numbers of errors that no wait cures: the user may not, or this server has no such view or variable."""

_WAITERS_MARIADB: Final = text(
    """
    SELECT COUNT(DISTINCT waiter.trx_mysql_thread_id) AS sessions
    FROM information_schema.INNODB_LOCK_WAITS AS w
    JOIN information_schema.INNODB_TRX AS holder ON holder.trx_id = w.blocking_trx_id
    JOIN information_schema.INNODB_TRX AS waiter ON waiter.trx_id = w.requesting_trx_id
    WHERE holder.trx_mysql_thread_id IN :own AND waiter.trx_mysql_thread_id NOT IN :own
    """
).bindparams(bindparam("own", expanding=True))

_WAITERS_MYSQL: Final = text(
    """
    SELECT COUNT(DISTINCT waiting_pid) AS sessions FROM sys.innodb_lock_waits
    WHERE blocking_pid IN :own AND waiting_pid NOT IN :own
    """
).bindparams(bindparam("own", expanding=True))

_CONNECTIONS: Final = text("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
_MOST: Final = text("SELECT @@max_connections AS most")


async def read_pressure(connection: AsyncConnection, indicators: Sequence[Indicator]) -> list[Measure | Unread]:
    """Read some indicators, each apart: one that cannot be read leaves the others.

    Args:
        connection: not in a transaction; this ends the one that it needs.
        indicators: which; those that these servers have not are passed over.

    Raises:
        DBAPIError: the connection was lost.
    """
    found: list[Measure | Unread] = []
    async with connection.begin():
        driver = driver_of(await connection.get_raw_connection())
        limit = (
            {"max_statement_time": f"{STATEMENT_MS / 1000:.3f}"}
            if driver.is_mariadb
            else {"max_execution_time": f"{STATEMENT_MS}"}
        )
        driver.wanted = limit
        for indicator in indicators:
            if indicator not in _READERS:
                continue
            try:
                found.append(await _READERS[indicator](connection, driver))
            except DBAPIError as error:
                if error.connection_invalidated:
                    raise
                found.append(_unread(indicator, error))
    return found


def _unread(indicator: Indicator, error: DBAPIError) -> Unread:
    found = describe(error, MYSQL_ERRORS.code_of)
    return Unread(indicator, f"{found.type}: {found.message}", for_good=number_of(error.orig) in _NOT_HERE)


async def _lock_waiters(connection: AsyncConnection, driver: WorkerConnection) -> Measure:
    own = [one.server_id for one in driver.family if one.is_open]
    query = _WAITERS_MARIADB if driver.is_mariadb else _WAITERS_MYSQL
    return LockWaiters((await connection.execute(query, {"own": own})).scalar_one())


async def _connections(connection: AsyncConnection, driver: WorkerConnection) -> Measure:
    used = int((await connection.execute(_CONNECTIONS)).one()[1])
    most = (await connection.execute(_MOST)).scalar_one()
    # this one, and the worker's own that are idle
    own = sum(one is driver or (one.is_open and one.untouched) for one in driver.family)
    return Connections(max(0, used - own), most)


_READERS: Final[dict[Indicator, Callable[[AsyncConnection, WorkerConnection], Awaitable[Measure]]]] = {
    Indicator.LOCKS: _lock_waiters,
    Indicator.CONNECTIONS: _connections,
}
