"""Upserts on MariaDB and MySQL: a chunk's rows in key order, in a few round trips, counted exactly.

```text
1  look      in which order the keys are, which rows have one key, and which of them the table has
2  lock      those that it has, where it has all; else insert and lock in one pass, in the order of keys
3  update    those that differ
```

ON DUPLICATE KEY UPDATE does not do for all of it: any unique index decides what is a duplicate, and the server's count
takes a new row and an unchanged one for the same. Owns the sending and the counting. Refuses to validate values: that
was done before.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final

from sqlalchemy import Column, Dialect, Table, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.merge_counts import MergeCounts
from worker.core.table_facts import TableFacts
from worker.database.dialect import Encoder
from worker.database.merge_shape import MergeShape, merge_shape
from worker.database.model_defaults import maker_for_none, value_maker, without_none
from worker.database.mysql.key_order import KeyOrder
from worker.database.mysql.locked_rows import LockedRows
from worker.database.mysql.packets import most_bytes, parts
from worker.database.mysql.row_insert import DUPLICATE, LOCKED_DUPLICATE, MOST_COUNTED, RowInsert, number_of
from worker.database.mysql.sent_rows import Rows
from worker.database.mysql.sent_values import column_encoder, sendable

# The one pass is an UPDATE, if one that changes nothing, to the triggers of the table.
_TRIGGERS: Final = text("""
SELECT EXISTS (SELECT 1 FROM information_schema.triggers
               WHERE event_object_schema = COALESCE(:schema, DATABASE()) AND event_object_table = :table
                 AND event_manipulation = 'UPDATE')
""")


class MySqlMerge:
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
        """Upsert some rows in the connection's transaction.

        Args:
            connection: in a transaction of the caller's. The same engine's in every call.
            values: one sequence a column, in the order of `columns`, all of one length of at least 1.

        Returns:
            What happened to each row.

        Raises:
            sqlalchemy.exc.DBAPIError: the database refused the rows; the caller rolls back to before, to a savepoint
                or the whole transaction.
        """
        if self._prepared is None:
            self._prepared = await _prepare(self._shape, connection)
        return await self._prepared.apply(connection, values)

    async def in_key_order(self, connection: AsyncConnection, values: Sequence[Sequence[object]]) -> list[list[int]]:
        """The indexes of some rows in the order of their keys, as the database compares them; see `KeyOrder.groups`."""
        return await KeyOrder(self._shape.rows, connection.dialect).groups(connection, values)


async def _prepare(shape: MergeShape, connection: AsyncConnection) -> "_Prepared":
    table = shape.rows.table
    triggers = await connection.execute(_TRIGGERS, {"schema": table.schema, "table": table.name})
    # by another key the one pass might lock a row by its primary key first, which all others lock last
    primary = next((key.columns for key in shape.rows.facts.unique_keys if key.primary), ())
    by_primary = primary == tuple(column.name for column in shape.rows.key)
    one_pass = bool(shape.rows.update) and by_primary and not triggers.scalar_one()
    return _Prepared(shape, connection.dialect, await most_bytes(connection), one_pass=one_pass)


class _Prepared:
    """What is made once, as soon as the server is known."""

    def __init__(self, shape: MergeShape, dialect: Dialect, most: int, *, one_pass: bool) -> None:
        def encoder(column: Column[object]) -> Encoder:
            return column_encoder(column, shape.rows.column_facts(column), dialect)

        self._updates = bool(shape.rows.update)
        self._incomplete = _lacks_a_value(shape)
        self._one_pass = one_pass
        self._most = most
        self._order = KeyOrder(shape.rows, dialect)
        self._insert = RowInsert(shape, dialect)
        self._locked = LockedRows(shape.rows, shape.sent, dialect, most)
        self._key = [shape.sent.index(column) for column in shape.rows.key]
        self._given = [
            (encoder(column), maker_for_none(column, shape.rows.column_facts(column))) for column in shape.rows.given
        ]
        self._filled = [
            (encoder(column), make) for column in shape.filled if (make := value_maker(column.default)) is not None
        ]

    async def apply(self, connection: AsyncConnection, values: Sequence[Sequence[object]]) -> MergeCounts:
        """Upsert some rows."""
        sent = self._sent(values)
        groups = await self._order.look(connection, [sent[at] for at in self._key])
        rows = [tuple(column[group.places[-1]] for column in sent) for group in groups]
        met = await self._met(connection, rows, [group.found for group in groups])
        updated = await self._locked.update(connection, _those(rows, met))
        found = sum(met)
        return MergeCounts(
            inserted=len(rows) - found,
            updated=updated,
            unchanged=found - updated,
            duplicates=len(values[0]) - len(rows),
        )

    def _sent(self, values: Sequence[Sequence[object]]) -> list[Sequence[object]]:
        sent = [encode(without_none(column, make)) for (encode, make), column in zip(self._given, values, strict=True)]
        sent += [encode([make() for _ in values[0]]) for encode, make in self._filled]
        return [sendable(column) for column in sent]

    async def _met(self, connection: AsyncConnection, rows: Rows, found: list[bool]) -> list[bool]:
        """Insert what is missing; of each row, whether it was there, and so is locked now."""
        if self._incomplete:
            # no row could be inserted, so none is upserted, not even one that is there: elsewhere it is refused, too
            await self._insert.plainly(connection, rows[:1])
        if self._one_pass and not all(found):
            met = await self._in_one_pass(connection, rows)
            if met is not None:
                return met
        return await self._in_two_steps(connection, rows, found)

    async def _in_one_pass(self, connection: AsyncConnection, rows: Rows) -> list[bool] | None:
        """None where another unique index than the key's has a say."""
        sections = [*parts(rows, self._most, MOST_COUNTED)]
        try:
            async with _whole(connection, sections):
                return await self._insert.in_one_pass(connection, sections)
        except DBAPIError as error:
            if number_of(error) != LOCKED_DUPLICATE:
                raise
        return None

    async def _in_two_steps(self, connection: AsyncConnection, rows: Rows, found: list[bool]) -> list[bool]:
        """Lock what is there, and insert the rest; again for as long as another session inserts some of it first."""
        met = await self._look_again(connection, rows, found, first=True)
        while not all(met):
            missing = [*parts(_others(rows, met), self._most)]
            if await self._inserted(connection, missing):
                break
            now = await self._look_again(connection, rows, met, first=False)
            if now == met:
                # it was another index than the key's: the server is to say which
                for part in missing:
                    await self._insert.plainly(connection, part)
                break
            met = now
        return met

    async def _inserted(self, connection: AsyncConnection, sections: Sequence[Rows]) -> bool:
        """Insert all of some rows, or none of them where one is a duplicate."""
        insert = self._insert.or_fail if self._updates else self._insert.plainly
        try:
            async with _whole(connection, sections):
                for part in sections:
                    await insert(connection, part)
        except DBAPIError as error:
            if number_of(error) not in {DUPLICATE, LOCKED_DUPLICATE}:
                raise
            return False
        return True

    async def _look_again(
        self, connection: AsyncConnection, rows: Rows, known: list[bool], *, first: bool
    ) -> list[bool]:
        if self._updates:
            return await self._locked.lock(connection, rows)
        # what stays as it is need not be locked
        if first:
            return known
        groups = await self._order.look(connection, [[row[at] for row in rows] for at in self._key])
        return [group.found for group in groups]


def _lacks_a_value(shape: MergeShape) -> bool:
    """Whether a new row would be without a value that it must have."""
    filled = {*(column.name for column in (*shape.sent, *shape.computed))}
    return any(
        not (facts.nullable or facts.generated or facts.default is not None or name in filled)
        for name, facts in shape.rows.facts.columns.items()
    )


def _whole(connection: AsyncConnection, sections: Sequence[Rows]) -> AbstractAsyncContextManager[object]:
    """All of some statements or nothing. One by itself is: the server undoes it, and goes on with the transaction."""
    return connection.begin_nested() if len(sections) > 1 else nullcontext()


def _those(rows: Rows, met: Sequence[bool]) -> Rows:
    return [row for row, there in zip(rows, met, strict=True) if there]


def _others(rows: Rows, met: Sequence[bool]) -> Rows:
    return [row for row, there in zip(rows, met, strict=True) if not there]
