"""The order of a chunk's rows by their keys, as the database compares them, and which of them have one key.

Owns the query for it, sent only where rows have to be tried in parts: parts, too, must lock in key order.
"""

from collections.abc import Sequence

from sqlalchemy import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.database.postgres.sent_rows import key_order, value_name
from worker.database.postgres.sent_values import column_encoder
from worker.database.row_shape import RowShape


class KeyOrder:
    """Orders rows of one shape.

    Args:
        shape: has the key.
        dialect: of the engine that will be asked.
    """

    def __init__(self, shape: RowShape, dialect: Dialect) -> None:
        self._statement = key_order(shape, dialect)
        self._key = [
            (shape.given.index(column), column_encoder(column, shape.column_facts(column), dialect))
            for column in shape.key
        ]

    async def groups(self, connection: AsyncConnection, values: Sequence[Sequence[object]]) -> list[list[int]]:
        """The indexes of some rows in the order of their keys.

        Args:
            connection: in a transaction of the caller's.
            values: one sequence a column given.

        Returns:
            Groups of rows with one key, each in the rows' own order.

        Raises:
            sqlalchemy.exc.DBAPIError: the database refused a key.
        """
        parameters = {value_name(at): encode(values[at]) for at, encode in self._key}
        groups: dict[int, list[int]] = {}
        for position, group in await connection.execute(self._statement, parameters):
            groups.setdefault(group, []).append(position - 1)
        return list(groups.values())
