"""Deletes on MariaDB and MySQL whose rows go on elsewhere."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Table
from sqlalchemy.ext.asyncio import AsyncConnection


async def move_rows(
    connection: AsyncConnection, table: Table, archive: Table, columns: Sequence[str], condition: ColumnElement[bool]
) -> tuple[int, int]:
    """Delete rows and insert each into another table; how many it did of either."""
    raise NotImplementedError


async def take_rows(
    connection: AsyncConnection,
    table: Table,
    selected: Sequence[ColumnElement[object]],
    condition: ColumnElement[bool],
    order: Sequence[ColumnElement[object]],
) -> list[Row[Any]]:
    """Delete rows and return something of each, in an order."""
    raise NotImplementedError


def advice(table: Table) -> str:
    """What makes the room of deleted rows usable again."""
    raise NotImplementedError
