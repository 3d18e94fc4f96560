"""What MariaDB's and MySQL's planner knows."""

from sqlalchemy import ColumnElement, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.walk_choice import LeadingColumn


async def leading_columns(connection: AsyncConnection, table: Table) -> list[LeadingColumn]:
    """The columns that come first in an index."""
    raise NotImplementedError


async def estimate_rows(connection: AsyncConnection, table: Table, condition: ColumnElement[bool]) -> int:
    """About how many rows of a table pass a condition, without looking at any."""
    raise NotImplementedError
