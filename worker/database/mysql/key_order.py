"""The order of a chunk's rows by their keys, as the database compares them, and which of them have one key.

Owns the query for it. All that lock or insert rows here send them in this order: the server takes locks as it meets
rows, and sorting them afterwards would be too late.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Dialect, Integer, Select, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.table_facts import ColumnFacts
from worker.database.mysql.casts import in_collation
from worker.database.mysql.nested_join import NestedJoin
from worker.database.mysql.sent_rows import PLACE, ROWS, SentRows, packed
from worker.database.mysql.sent_values import column_encoder, sendable
from worker.database.mysql.stored_forms import member_number
from worker.database.row_shape import RowShape

PIECE: Final = 120
"""Characters of a text that are sorted by at once: a server looks at its first 1,024 bytes only (max_sort_length)."""

MOST_BYTES: Final = 3_072
"""Bytes that a key can have."""

LONGEST_KEY: Final = MOST_BYTES
"""Characters that a key can have."""


@dataclass(frozen=True, slots=True)
class KeyGroup:
    """Rows with one key.

    Attributes:
        places: their indexes among those asked about, in their own order.
        found: whether the table has a row with that key, as of the question.
    """

    places: list[int]
    found: bool


class KeyOrder:
    """Orders rows of one shape.

    Args:
        shape: has the key.
        dialect: of the engine that will be asked.
    """

    def __init__(self, shape: RowShape, dialect: Dialect) -> None:
        self._statement = _statement(shape, dialect)
        self._key = [
            (shape.given.index(column), column_encoder(column, shape.column_facts(column), dialect))
            for column in shape.key
        ]

    async def groups(self, connection: AsyncConnection, values: Sequence[Sequence[object]]) -> list[list[int]]:
        """The indexes of some rows in the order of their keys.

        Args:
            connection: in a transaction of the caller's.
            values: one sequence a column given, of the model's values.

        Returns:
            Groups of rows with one key, each in the rows' own order.

        Raises:
            sqlalchemy.exc.DBAPIError: the database refused a key.
        """
        keys = [sendable(encode(values[at])) for at, encode in self._key]
        return [group.places for group in await self.look(connection, keys)]

    async def look(self, connection: AsyncConnection, keys: Sequence[Sequence[object]]) -> list[KeyGroup]:
        """The same of sendable keys, one sequence a column of the key; and which of them exist, without a lock."""
        groups: dict[int, KeyGroup] = {}
        rows = [*zip(*keys, strict=True)]
        for place, number, found in await connection.execute(self._statement, {ROWS: packed(rows)}):
            groups.setdefault(number, KeyGroup([], bool(found))).places.append(place - 1)
        return list(groups.values())


def _statement(shape: RowShape, dialect: Dialect) -> Select[int, int, bool]:
    sent = SentRows(shape, shape.key, dialect)
    sorted_by = [piece for part in shape.key for piece in _sortable(sent, part, shape.column_facts(part))]
    number = func.dense_rank().over(order_by=sorted_by).label("number")
    place: ColumnElement[int] = sent.table.c[PLACE]
    index = shape.facts.unique_key(tuple(column.name for column in shape.key)).name
    looked_up = NestedJoin(sent.table, shape.table, sent.same_key(), index, outer=True)
    # a column of a primary key may not be NULL, nor is one that equals something
    found = shape.key[0].is_not(None)
    return select(place, number, found).select_from(looked_up).order_by(literal_column("number", Integer), place)


def _sortable(sent: SentRows, part: Column[object], facts: ColumnFacts) -> Iterator[ColumnElement[Any]]:
    """What a part of a key is sorted by: long text by pieces, which in their order make the same order."""
    value, longest = sent.stored(part), min(facts.max_length or LONGEST_KEY, LONGEST_KEY)
    if facts.type_name in {"binary varying", "binary large object"}:
        # by the digits that they are sent in: MariaDB takes all of them for equal where it ranks them
        value, longest = in_collation(sent.raw(part), "utf8mb4_bin"), 2 * MOST_BYTES
    elif facts.type_name in {"enum", "set"}:
        yield member_number(value, facts)
        return
    elif not facts.text or longest <= PIECE:
        yield value
        return
    for first in range(1, longest + 1, PIECE):
        yield func.substring(value, first, PIECE)
