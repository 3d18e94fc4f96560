"""Rows of one shape, locked in key order and then updated where they differ.

Owns sending the two statements, in as many parts as the server's packets take. Refuses to know where rows come from.
"""

from collections.abc import Sequence

from sqlalchemy import Column, Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.database.mysql.packets import parts
from worker.database.mysql.plain_update import CompiledUpdate
from worker.database.mysql.sent_rows import ROWS, Rows, packed
from worker.database.mysql.touches import Touches
from worker.database.mysql.update_statement import lock_statement, update_statement
from worker.database.row_shape import RowShape


class LockedRows:
    """Locks and updates rows.

    Args:
        shape: has the key, and what is updated.
        columns: whose values the rows have, in this order.
        dialect: of the engine that will send them.
        most: bytes of a packet.
    """

    def __init__(self, shape: RowShape, columns: Sequence[Column[object]], dialect: Dialect, most: int) -> None:
        self._key = [columns.index(column) for column in shape.key]
        self._most = most
        self._lock = lock_statement(shape, dialect)
        # without a column to update there is no statement
        self._update = (
            CompiledUpdate(update_statement(shape, tuple(columns), dialect), dialect) if shape.update else None
        )
        self._touches = Touches(shape, dialect)

    async def lock(self, connection: AsyncConnection, rows: Rows) -> list[bool]:
        """Lock rows in their order, which is that of their keys; of each, whether it exists."""
        met: list[bool] = []
        for part in parts([[row[at] for at in self._key] for row in rows], self._most):
            places = set((await connection.execute(self._lock, {ROWS: packed(part)})).scalars())
            met += [place in places for place in range(1, len(part) + 1)]
        return met

    async def update(self, connection: AsyncConnection, rows: Rows) -> int:
        """Update locked rows where they differ; how many did."""
        if self._update is None:
            return 0
        changed = 0
        for part in parts(rows, self._most):
            parameters = {ROWS: packed(part), **self._touches.parameters()}
            changed += (await self._update.execute(connection, parameters)).rowcount
        return changed
