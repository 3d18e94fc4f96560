"""Updates on MariaDB and MySQL of rows that are there: locked in key order, counted exactly.

Owns the sending and the counting. Refuses to insert, and to validate values: that was done before.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, Dialect, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.table_facts import TableFacts
from worker.core.update_counts import UpdateCounts
from worker.database.mysql.key_order import KeyOrder
from worker.database.mysql.locked_rows import LockedRows
from worker.database.mysql.packets import most_bytes
from worker.database.mysql.sent_rows import Rows
from worker.database.mysql.sent_values import column_encoder, in_json, sendable
from worker.database.mysql.touches import Touches
from worker.database.mysql.update_statement import value_name, where_lock_statement, where_update_statement
from worker.database.row_shape import RowShape, set_shape, update_shape


class MySqlRowUpdate:
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
        """Update some rows in the connection's transaction, in three round trips.

        Args:
            connection: in a transaction of the caller's. The same engine's in every call.
            values: one sequence a column, in the order of `columns`, all of one length of at least 1.

        Returns:
            What happened to each row.

        Raises:
            sqlalchemy.exc.DBAPIError: the database refused the rows, all of them; the caller rolls back to before.
        """
        if self._prepared is None:
            self._prepared = _Prepared(self._shape, connection.dialect, await most_bytes(connection))
        distinct, rows = await self._prepared.latest(connection, values)
        locked = self._prepared.locked
        met = await locked.lock(connection, rows)
        changed = await locked.update(connection, [row for row, there in zip(rows, met, strict=True) if there])
        found = sum(met)
        return UpdateCounts(
            updated=changed,
            unchanged=found - changed,
            missing=distinct - found,
            duplicates=len(values[0]) - distinct,
        )

    async def in_key_order(self, connection: AsyncConnection, values: Sequence[Sequence[object]]) -> list[list[int]]:
        """The indexes of some rows in the order of their keys, as the database compares them; see `KeyOrder.groups`."""
        return await KeyOrder(self._shape, connection.dialect).groups(connection, values)


class _Prepared:
    """What is made once, as soon as the server is known."""

    def __init__(self, shape: RowShape, dialect: Dialect, most: int) -> None:
        self.locked = LockedRows(shape, shape.given, dialect, most)
        self._order = KeyOrder(shape, dialect)
        self._encoders = [column_encoder(column, shape.column_facts(column), dialect) for column in shape.given]
        self._key = [shape.given.index(column) for column in shape.key]

    async def latest(self, connection: AsyncConnection, values: Sequence[Sequence[object]]) -> tuple[int, Rows]:
        """How many keys there are, and of each the last row, in their order."""
        sent = [sendable(encode(column)) for encode, column in zip(self._encoders, values, strict=True)]
        groups = await self._order.look(connection, [sent[at] for at in self._key])
        return len(groups), [tuple(column[group.places[-1]] for column in sent) for group in groups]


class MySqlWhereUpdate:
    """An update that gives the same values to all rows for which a condition holds.

    A row with nothing to change is not written. Columns with an `onupdate` that are given no value are set where a row
    really changes. Rows are locked as the condition's index has them, which is the primary key's order where the
    condition bounds that.

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
        """Update the rows for which a condition holds in the connection's transaction, in two round trips.

        A row that another session adds between the two is updated and counted, if there is something to change.

        Args:
            connection: in a transaction of the caller's.
            condition: over the table's columns.

        Raises:
            sqlalchemy.exc.DBAPIError: the database refused a row; the caller rolls back to before.
        """
        shape, dialect = self._shape, connection.dialect
        sent = {
            value_name(at): in_json(sendable(column_encoder(column, shape.column_facts(column), dialect)([value])))[0]
            for at, (column, value) in enumerate(zip(shape.given, self._values, strict=True))
        }
        lock = where_lock_statement(shape, dialect, condition)
        locked, differing = (await connection.execute(lock, sent)).one()
        if not differing:
            return UpdateCounts(updated=0, unchanged=locked)
        changing = where_update_statement(shape, dialect, condition)
        changed = (await connection.execute(changing, sent | Touches(shape, dialect).parameters())).rowcount
        return UpdateCounts(updated=changed, unchanged=locked - int(differing))
