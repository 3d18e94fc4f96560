"""Updates on SQLite of rows that are there: some statements in the connection's own thread, counted exactly.

```sql
SELECT count(*), count(t.key) FROM sent LEFT JOIN t ON t.key = +sent.key
UPDATE OR ABORT t SET x = sent.x, ... FROM sent WHERE t.key = +sent.key AND (t.x IS NOT sent.x OR ...)
```

Nobody else writes between the two: the transaction has held the file's write lock since it began. Owns the sending and
the counting. Refuses to insert, and to validate values: that was done before.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import Column, ColumnElement, Dialect, Table, func, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.table_facts import TableFacts
from worker.core.update_counts import UpdateCounts
from worker.database.row_shape import RowShape, set_shape, update_shape
from worker.database.sqlite.exact_types import Stored, affinity_of
from worker.database.sqlite.key_order import KeyOrder
from worker.database.sqlite.sent_rows import SentRows, any_differs, found_among, same_key
from worker.database.sqlite.sent_values import column_encoder
from worker.database.sqlite.touches import Touches


class SqliteRowUpdate:
    """An update that gives each row values of its own, prepared for one set of columns and used for each chunk.

    Of several rows with one key in a call, as the database compares keys, the last one counts. A row with nothing to
    change is not written. Columns with an `onupdate` that the rows do not carry are set where a row really changes.

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
        """Update some rows in the connection's transaction.

        Args:
            connection: in a transaction of the caller's that may write. The same engine's in every call.
            values: one sequence a column, in the order of `columns`, all of one length of at least 1.

        Returns:
            What happened to each row.

        Raises:
            RequestError: the model has texts in a column of numbers.
            sqlalchemy.exc.DBAPIError: the database refused the rows, all of them; its transaction must be rolled back.
        """
        if self._prepared is None:
            self._prepared = _Prepared(self._shape, connection.dialect)
        distinct, found, changed = await self._prepared.apply(connection, values)
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
    """What is made once, as soon as the dialect is known."""

    def __init__(self, shape: RowShape, dialect: Dialect) -> None:
        self._encoders = [column_encoder(column, shape.column_facts(column), dialect) for column in shape.given]
        self._touches = Touches(shape, dialect)
        self._sent = SentRows(shape, shape.given, dialect)
        new = {column: self._sent.columns[column] for column in shape.update}
        self._found = found_among(self._sent, shape)
        changing = update(shape.table).prefix_with("OR ABORT").values({**new, **self._touches.expressions})
        self._update = changing.where(same_key(self._sent, shape), any_differs(new, shape.facts.columns))

    async def apply(self, connection: AsyncConnection, values: Sequence[Sequence[object]]) -> tuple[int, int, int]:
        """Distinct keys, and how many rows were there and were changed."""
        sent = [encode(column) for encode, column in zip(self._encoders, values, strict=True)]
        async with self._sent.held(connection, list(zip(*sent, strict=True))):
            distinct, found = (await connection.execute(self._found)).one()
            changed = (await connection.execute(self._update, self._touches.parameters())).rowcount
        return distinct, found, changed


class SqliteWhereUpdate:
    """An update that gives the same values to all rows for which a condition holds.

    A row with nothing to change is not written. Columns with an `onupdate` that are given no value are set where a row
    really changes.

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
        """Update the rows for which a condition holds in the connection's transaction.

        Args:
            connection: in a transaction of the caller's that may write.
            condition: over the table's columns.

        Raises:
            RequestError: the model has texts in a column of numbers.
            sqlalchemy.exc.DBAPIError: the database refused a row; the transaction must be rolled back.
        """
        shape, touches = self._shape, Touches(self._shape, connection.dialect)
        new: dict[Column[object], ColumnElement[object]] = {}
        for column, value in zip(shape.given, self._values, strict=True):
            facts = shape.column_facts(column)
            (sent,) = column_encoder(column, facts, connection.dialect)([value])
            new[column] = literal(sent, Stored(affinity_of(facts)))
        count = select(func.count()).select_from(shape.table).where(condition)
        found = (await connection.execute(count)).scalar_one()
        changing = update(shape.table).prefix_with("OR ABORT").values({**new, **touches.expressions})
        changing = changing.where(condition, any_differs(new, shape.facts.columns))
        changed = (await connection.execute(changing, touches.parameters())).rowcount
        return UpdateCounts(updated=changed, unchanged=found - changed)
