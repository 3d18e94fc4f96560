"""Long reads: a snapshot that only reads, streamed, under limits of its own.

Owns these and their reasons. Refuses to read any row.
"""

from typing import Any, Final

from sqlalchemy import Connection, Select
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.settings import Settings
from worker.database.mysql.connections import BEGINNING
from worker.database.mysql.driver import driver_of
from worker.database.mysql.limits import limit_idleness, lock_limits, seconds

OPTIONS: Final[dict[str, object]] = {
    BEGINNING: (
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    )
}
"""The level is this one transaction's alone."""


def set_snapshot_limits(connection: Connection, settings: Settings) -> None:
    """Set the limits of a transaction that is streamed from.

    A stream is one statement, however long it is read: on MariaDB a limit for statements would end it. So each fetch
    has one, the client's. The server waits for a reader that is busy as long as such a transaction may be idle.
    """
    driver = driver_of(connection.connection)
    driver.wanted = {**lock_limits(settings), "net_write_timeout": seconds(settings.snapshot_idle_ms)}
    limit_idleness(driver, settings.snapshot_idle_ms)
    driver.patience_s = settings.snapshot_idle_ms / 1000
    driver.leaves_streams = True


async def avoid_long_sort(connection: AsyncConnection, statement: "Select[*tuple[Any, ...]]") -> None:
    """Nothing: rows come by the clustered index where they are ordered by it, and a sort has no timeout to outlast."""
    del connection, statement
