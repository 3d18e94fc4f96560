"""What is known beforehand of a walk: which columns lead an index, and how many rows a condition means."""

from sqlalchemy import ColumnElement, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.walk_choice import LeadingColumn


async def leading_columns(connection: AsyncConnection, table: Table) -> list[LeadingColumn]:
    """The columns that come first in a complete index of the column's own order."""
    raise NotImplementedError


async def estimate_rows(connection: AsyncConnection, table: Table, condition: ColumnElement[bool]) -> int:
    """About how many rows of a table pass a condition."""
    raise NotImplementedError
