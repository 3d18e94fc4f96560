"""Which columns play which part in a merge: those of any change of rows, and what makes an inserted row complete."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Column, Table

from worker.core.table_facts import TableFacts
from worker.database.model_defaults import SqlExpression, sql_expression, value_maker
from worker.database.row_shape import RowShape, row_shape


@dataclass(frozen=True, slots=True)
class MergeShape:
    """Which columns play which part in a merge.

    Attributes:
        rows: the parts that hold for existing rows too.
        filled: further columns that a new row gets from the model's `default=` in Python.
        computed: further columns that a new row gets from the model's `default=` in SQL, such as `func.now()`.
    """

    rows: RowShape
    filled: tuple[Column[object], ...]
    computed: Mapping[Column[object], SqlExpression]

    @property
    def sent(self) -> tuple[Column[object], ...]:
        """The columns whose values are sent, one array each, in this order."""
        return self.rows.given + self.filled


def merge_shape(
    table: Table, facts: TableFacts, columns: Sequence[str], key: Sequence[str], update: Sequence[str]
) -> MergeShape:
    """Sort a table's columns by their parts in a merge. The arguments are those of `Dialect.merge`.

    Raises:
        UnknownColumnError: the table or the model has no such column.
        KeyNotUniqueError: no unique key covers exactly the key's columns.
        RequestError: a column is given twice or written by the database alone, or key or update name one not given.
    """
    rows = row_shape(table, facts, columns=columns, key=key, update=update)
    absent = [
        column for column in table.columns if column.name not in columns and not facts.column(column.name).generated
    ]
    computed = {column: sql_expression(column.default) for column in absent}
    return MergeShape(
        rows=rows,
        filled=tuple(column for column in absent if value_maker(column.default)),
        computed={column: expression for column, expression in computed.items() if expression is not None},
    )
