"""What stands around an SQLite table and has a say when its rows change: the reader of `Surroundings`."""

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.preflight import Change, Surroundings


async def read_surroundings(connection: AsyncConnection, table: Table, change: Change) -> Surroundings:
    """What stands around a registered table."""
    raise NotImplementedError
