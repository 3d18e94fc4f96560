"""Which pooled connections are asked whether they live, before they are lent again.

Owns when that is worth its round trips. A connection that has just been used is trusted: what the driver has heard of
its end costs nothing to know, and a server that vanished within the second is met as it is in mid-transaction.
"""

from time import monotonic
from typing import Final

from sqlalchemy import PoolProxiedConnection, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry

from worker.database.dialect import Dialect

TRUSTED_S = 1.0
"""For how long after its last use a connection is lent without a question, in seconds."""

_RETURNED: Final = "heavylift_returned"


def watch_pool(engine: AsyncEngine, ways: Dialect) -> None:
    """See that what the engine's pool lends is alive, and that nothing of its last use is left.

    Args:
        engine: without `pool_pre_ping`, which asks each time.
        ways: of the database behind it.
    """
    dialect, pool = engine.sync_engine.dialect, engine.sync_engine.pool

    @event.listens_for(pool, "checkin")
    def returned(connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info[_RETURNED] = monotonic()
        if connection is not None:
            ways.forget_limits(record)

    @event.listens_for(pool, "checkout")
    def lent(connection: DBAPIConnection, record: ConnectionPoolEntry, _: PoolProxiedConnection) -> None:
        if not ways.is_open(record):
            raise DisconnectionError
        if monotonic() - record.info.get(_RETURNED, monotonic()) < TRUSTED_S:
            return
        try:
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            # the others are no better: they lead to the same server
            raise InvalidatePoolError from error
