"""Updates on PostgreSQL of rows that are there: one statement and one round trip a chunk, counted exactly.

Owns the sending and the counting. Refuses to insert, and to validate values: that was done before.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, Dialect, Select, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.table_facts import TableFacts
from worker.core.update_counts import UpdateCounts
from worker.database.postgres.key_order import KeyOrder
from worker.database.postgres.sent_rows import value_name
from worker.database.postgres.sent_values import column_encoder
from worker.database.postgres.touches import Touches
from worker.database.postgres.update_statement import row_update_statement, where_update_statement
from worker.database.row_shape import RowShape, set_shape, update_shape


class PostgresRowUpdate:
    """An update that gives each row values of its own, prepared for one set of columns and used for each chunk.

    Of several rows with one key in a call, as the database compares keys, the last one counts. Rows are locked in the
    key's order. A row with nothing to change is not written. Columns with an `onupdate` that the rows do not carry are
    set where a row really changes.

    Args:
        table: the registered table.
        facts: what the database says of it.
        columns: the columns given values, in the order in which `apply` gets them.
        key: which of them tell rows apart: the columns of a unique key, in any order. The others are updated.

    Raises:
        UnknownColumnError: the table or the model has no such column.
        KeyNotUniqueError: no unique key covers exactly the key's columns.
        RequestError: a column is given twice or written by the database alone, the key names one not given, or there
            is nothing but the key.
    """

    def __init__(self, table: Table, facts: TableFacts, *, columns: Sequence[str], key: Sequence[str]) -> None:
        self._shape = update_shape(table, facts, columns=columns, key=key)
        self._prepared: _Prepared | None = None

    async def apply(self, connection: AsyncConnection, values: Sequence[Sequence[object]]) -> UpdateCounts:
        """Update some rows in the connection's transaction, in one round trip.

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
        distinct, locked, changed = (await connection.execute(self._prepared.statement, parameters)).one()
        return UpdateCounts(
            updated=changed,
            unchanged=locked - changed,
            missing=distinct - locked,
            duplicates=len(values[0]) - distinct,
        )

    async def in_key_order(self, connection: AsyncConnection, values: Sequence[Sequence[object]]) -> list[list[int]]:
        """The indexes of some rows in the order of their keys, as the database compares them; see `KeyOrder.groups`."""
        return await KeyOrder(self._shape, connection.dialect).groups(connection, values)


class _Prepared:
    """What is made once, as soon as the server is known."""

    def __init__(self, shape: RowShape, dialect: Dialect) -> None:
        self.statement: Select[int, int, int] = row_update_statement(shape, dialect)
        self._encoders = [column_encoder(column, shape.column_facts(column), dialect) for column in shape.given]
        self._touches = Touches(shape, dialect)

    def parameters(self, values: Sequence[Sequence[object]]) -> dict[str, object]:
        """The statement's parameters for some rows."""
        sent = [encode(column) for encode, column in zip(self._encoders, values, strict=True)]
        return {value_name(at): array for at, array in enumerate(sent)} | self._touches.parameters()


class PostgresWhereUpdate:
    """An update that gives the same values to all rows for which a condition holds.

    Rows are locked in the order of the primary key. A row with nothing to change is not written. Columns with an
    `onupdate` that are given no value are set where a row really changes.

    Args:
        table: the registered table.
        facts: what the database says of it.
        values: validated values by column name.

    Raises:
        UnknownColumnError: the table or the model has no such column.
        KeyNotUniqueError: the table has no primary key.
        RequestError: a column is written by the database alone, or part of the primary key.
    """

    def __init__(self, table: Table, facts: TableFacts, values: Mapping[str, object]) -> None:
        self._shape = set_shape(table, facts, list(values))
        self._values = list(values.values())

    async def apply(self, connection: AsyncConnection, condition: ColumnElement[bool]) -> UpdateCounts:
        """Update the rows for which a condition holds in the connection's transaction, in one round trip.

        Args:
            connection: in a transaction of the caller's.
            condition: over the table's columns.

        Raises:
            RequestError: an array holds an item that cannot be put into one.
            sqlalchemy.exc.DBAPIError: the database refused a row; the transaction must be rolled back.
        """
        shape, dialect = self._shape, connection.dialect
        sent = {
            value_name(at): column_encoder(column, shape.column_facts(column), dialect)([value])[0]
            for at, (column, value) in enumerate(zip(shape.given, self._values, strict=True))
        }
        statement = where_update_statement(shape, dialect, condition)
        row = await connection.execute(statement, sent | Touches(shape, dialect).parameters())
        locked, changed = row.one()
        return UpdateCounts(updated=changed, unchanged=locked - changed)
