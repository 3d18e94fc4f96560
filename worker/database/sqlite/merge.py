"""Upserts on SQLite: some statements in the connection's own thread, however many rows; counted exactly.

```sql
SELECT count(*), count(t.key) FROM sent LEFT JOIN t ON t.key = +sent.key      -- how many are there already
INSERT OR ABORT INTO t (...) SELECT ... FROM sent ORDER BY key
ON CONFLICT (key) DO UPDATE SET x = excluded.x, ... WHERE t.x IS NOT excluded.x OR ...
```

The transaction has held the file's write lock since it began, so what was counted stays true while it writes. OR ABORT
is what a refused row means, even where a constraint of the table says ON CONFLICT IGNORE or REPLACE: nothing is
dropped, and no other row deleted, without a word.

Owns the sending and the counting. Refuses to validate values: that was done before.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Dialect, Select, Table, func, literal, select
from sqlalchemy import column as named_column
from sqlalchemy import table as named_table
from sqlalchemy.dialects.sqlite import Insert, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.merge_counts import MergeCounts
from worker.core.table_facts import TableFacts
from worker.database.dialect import Encoder
from worker.database.merge_shape import MergeShape, merge_shape
from worker.database.model_defaults import maker_for_none, value_maker, without_none
from worker.database.sqlite.indexes import place_of
from worker.database.sqlite.key_order import KeyOrder
from worker.database.sqlite.sent_rows import SentRows, any_differs, found_among
from worker.database.sqlite.sent_values import column_encoder
from worker.database.sqlite.touches import Touches


class SqliteMerge:
    """An upsert of one table, prepared for one set of columns and used for each chunk.

    Of several rows with one key in a call, as the database compares keys, the last one counts. An incoming None in a
    NOT NULL column takes the column's default: the database's, else the model's. Columns not given take the model's
    default in new rows, made for each row, else the database's. Columns with an `onupdate` that an existing row does
    not take from the incoming one are set where a row really changes.

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
        distinct, inserted, updated = await self._prepared.apply(connection, values)
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
    """What is made once, as soon as the dialect is known."""

    def __init__(self, shape: MergeShape, dialect: Dialect) -> None:
        rows = shape.rows

        def encoder(column: Column[object]) -> Encoder:
            return column_encoder(column, rows.column_facts(column), dialect)

        self._given = [(encoder(column), maker_for_none(column, rows.column_facts(column))) for column in rows.given]
        self._filled = [
            (encoder(column), make) for column in shape.filled if (make := value_maker(column.default)) is not None
        ]
        self._touches = Touches(rows, dialect)
        self._sent = SentRows(rows, shape.sent, dialect, filled=True)
        self._found = found_among(self._sent, rows).add_columns(_triggers(rows.table).scalar_subquery())
        self._merge = _merge(shape, self._sent, self._touches)

    async def apply(self, connection: AsyncConnection, values: Sequence[Sequence[object]]) -> tuple[int, int, int]:
        """Distinct keys, and how many rows were inserted and updated."""
        columns = [without_none(column, make) for (_, make), column in zip(self._given, values, strict=True)]
        sent = [encode(column) for (encode, _), column in zip(self._given, columns, strict=True)]
        sent += [encode([make() for _ in values[0]]) for encode, make in self._filled]
        async with self._sent.held(connection, list(zip(*sent, strict=True))):
            distinct, before, triggers = (await connection.execute(self._found)).one()
            merged = await connection.execute(
                self._merge, self._touches.parameters(), execution_options={"preserve_rowcount": True}
            )
            after = distinct
            if triggers:
                # one of them may pass a row over (RAISE(IGNORE))
                _, after, _ = (await connection.execute(self._found)).one()
        inserted = after - before
        return distinct, inserted, merged.rowcount - inserted


def _merge(shape: MergeShape, sent: SentRows, touches: Touches) -> Insert:
    rows = shape.rows
    key = [sent.columns[column] for column in rows.key]
    # ORDER BY also says where the SELECT ends: without it ON CONFLICT could be the ON of a join
    chosen = select(*sent.columns.values(), *shape.computed.values()).order_by(*key)
    statement = insert(rows.table).from_select([*shape.sent, *shape.computed], chosen, include_defaults=False)
    statement = statement.prefix_with("OR ABORT")
    if not rows.update:
        return statement.on_conflict_do_nothing(index_elements=rows.key)
    taken = {column: statement.excluded[column.key] for column in rows.update}
    return statement.on_conflict_do_update(
        index_elements=rows.key,
        set_={**taken, **touches.expressions},
        where=any_differs(taken, rows.facts.columns),
    )


def _triggers(table: Table) -> "Select[Any]":
    place = place_of(table)
    schema = named_table("sqlite_master", named_column("type"), named_column("tbl_name"), schema=place["schema"])
    of_table = func.lower(schema.c.tbl_name) == table.name.lower()
    return select(func.count()).select_from(schema).where(schema.c.type == literal("trigger"), of_table)
