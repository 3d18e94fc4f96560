"""The order of a chunk's rows by their keys, as the database compares them, and which of them have one key.

Owns the query for it, sent only where rows have to be tried in parts.
"""

from collections.abc import Sequence

from sqlalchemy import Dialect, Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.database.row_shape import RowShape
from worker.database.sqlite.sent_rows import POSITION, SentRows
from worker.database.sqlite.sent_values import column_encoder


class KeyOrder:
    """Orders rows of one shape.

    Args:
        shape: has the key.
        dialect: of the engine that will be asked.
    """

    def __init__(self, shape: RowShape, dialect: Dialect) -> None:
        self._sent = SentRows(shape, shape.key, dialect, by_key=False)
        number = func.dense_rank().over(order_by=list(self._sent.columns.values()))
        position = self._sent.table.c[POSITION]
        self._statement: Select[int, int] = select(position, number.label("number")).order_by("number", position)
        self._key = [
            (shape.given.index(column), column_encoder(column, shape.column_facts(column), dialect))
            for column in shape.key
        ]

    async def groups(self, connection: AsyncConnection, values: Sequence[Sequence[object]]) -> list[list[int]]:
        """The indexes of some rows in the order of their keys.

        Args:
            connection: in a transaction of the caller's that may write.
            values: one sequence a column given.

        Returns:
            Groups of rows with one key, each in the rows' own order.

        Raises:
            sqlalchemy.exc.DBAPIError: the driver refused a key.
        """
        sent = [encode(values[at]) for at, encode in self._key]
        groups: dict[int, list[int]] = {}
        async with self._sent.held(connection, list(zip(*sent, strict=True))):
            for position, group in await connection.execute(self._statement):
                groups.setdefault(group, []).append(position - 1)
        return list(groups.values())
