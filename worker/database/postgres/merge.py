"""Upserts on PostgreSQL: one statement and one round trip a chunk, counted exactly.

Owns the sending and the counting. Refuses to validate values: that was done before.
"""

from collections.abc import Sequence

from sqlalchemy import Column, Dialect, Select, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.merge_counts import MergeCounts
from worker.core.table_facts import TableFacts
from worker.database.dialect import Encoder
from worker.database.merge_shape import MergeShape, merge_shape
from worker.database.model_defaults import maker_for_none, value_maker, without_none
from worker.database.postgres.key_order import KeyOrder
from worker.database.postgres.merge_statement import merge_statement
from worker.database.postgres.sent_rows import value_name
from worker.database.postgres.sent_values import column_encoder
from worker.database.postgres.touches import Touches


class PostgresMerge:
    """An upsert of one table, prepared for one set of columns and used for each chunk.

    Of several rows with one key in a call, as the database compares keys, the last one counts. Rows are locked in the
    key's order. An incoming None in a NOT NULL column takes the column's default: the database's, else the model's.
    Columns not given take the model's default in new rows, made for each row, else the database's. Columns with an
    `onupdate` that an existing row does not take from the incoming one are set where a row really changes.

    Args:
        table: the registered table.
        facts: what the database says of it.
        columns: the columns given values, in the order in which `apply` gets them.
        key: which of them tell rows apart: the columns of a unique key, in any order. Never None in any row.
        update: which of them an existing row takes from the incoming one. Empty: existing rows stay as they are.

    Raises:
        UnknownColumnError: the table or the model has no such column.
        KeyNotUniqueError: no unique key covers exactly the key's columns.
        RequestError: a column is given twice or written by the database alone, or key or update name one not given.
    """

    def __init__(
        self, table: Table, facts: TableFacts, *, columns: Sequence[str], key: Sequence[str], update: Sequence[str]
    ) -> None:
        self._shape = merge_shape(table, facts, columns, key, update)
        self._prepared: _Prepared | None = None

    async def apply(self, connection: AsyncConnection, values: Sequence[Sequence[object]]) -> MergeCounts:
        """Upsert some rows in the connection's transaction, in one round trip.

        Args:
            connection: in a transaction of the caller's. The same engine's in every call.
            values: one sequence a column, in the order of `columns`, all of one length of at least 1.

        Returns:
            What happened to each row.

        Raises:
            RequestError: an array holds an item that cannot be put into one.
            sqlalchemy.exc.DBAPIError: the database refused the rows, all of them; its transaction must be rolled back.
        """
        if self._prepared is None:
            self._prepared = _Prepared(self._shape, connection.dialect)
        parameters = self._prepared.parameters(values)
        row = (await connection.execute(self._prepared.statement, parameters)).one()
        distinct, inserted, updated = row
        return MergeCounts(
            inserted=inserted,
            updated=updated,
            unchanged=distinct - inserted - updated,
            duplicates=len(values[0]) - distinct,
        )

    async def in_key_order(self, connection: AsyncConnection, values: Sequence[Sequence[object]]) -> list[list[int]]:
        """The indexes of some rows in the order of their keys, as the database compares them; see `KeyOrder.groups`."""
        return await KeyOrder(self._shape.rows, connection.dialect).groups(connection, values)


class _Prepared:
    """What is made once, as soon as the server is known."""

    def __init__(self, shape: MergeShape, dialect: Dialect) -> None:
        def encoder(column: Column[object]) -> Encoder:
            return column_encoder(column, shape.rows.column_facts(column), dialect)

        self.statement: Select[int, int, int] = merge_statement(shape, dialect)
        self._given = [
            (encoder(column), maker_for_none(column, shape.rows.column_facts(column))) for column in shape.rows.given
        ]
        self._filled = [
            (encoder(column), make) for column in shape.filled if (make := value_maker(column.default)) is not None
        ]
        self._touches = Touches(shape.rows, dialect)

    def parameters(self, values: Sequence[Sequence[object]]) -> dict[str, object]:
        """The statement's parameters for some rows."""
        sent = [encode(without_none(column, make)) for (encode, make), column in zip(self._given, values, strict=True)]
        sent += [encode([make() for _ in values[0]]) for encode, make in self._filled]
        return {value_name(at): array for at, array in enumerate(sent)} | self._touches.parameters()
