"""Deletes on SQLite whose rows go on elsewhere: into another table, or to whoever takes them."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Table
from sqlalchemy.ext.asyncio import AsyncConnection


async def move_rows(
    connection: AsyncConnection, table: Table, archive: Table, columns: Sequence[str], condition: ColumnElement[bool]
) -> tuple[int, int]:
    """Delete rows and insert each into another table; how many were deleted, and how many inserted."""
    raise NotImplementedError


async def take_rows(
    connection: AsyncConnection,
    table: Table,
    selected: Sequence[ColumnElement[object]],
    condition: ColumnElement[bool],
    order: Sequence[ColumnElement[object]],
) -> Sequence[Sequence[object]]:
    """Delete rows and return something of each, sorted."""
    raise NotImplementedError


def advice(table: Table) -> str:
    """What makes the room of deleted rows usable again."""
    raise NotImplementedError
