"""Which columns play which part in a merge.

Owns that sorting, and the refusal of what could not work, before anything is sent. Knows no SQL.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Column, Table

from worker.core.errors import RequestError, UnknownColumnError
from worker.core.table_facts import ColumnFacts, TableFacts
from worker.database.postgres.model_defaults import SqlExpression, sql_expression, value_maker


@dataclass(frozen=True, slots=True)
class MergeShape:
    """Which columns play which part in a merge.

    Attributes:
        table: the registered table: where every identifier comes from.
        facts: what the database says of it.
        given: the columns that the caller has values for, in the caller's order.
        filled: further columns that a new row gets from the model's `default=` in Python.
        computed: further columns that a new row gets from the model's `default=` in SQL, such as `func.now()`.
        key: the conflict key, in the order of its constraint, so that all who merge by it lock in one order.
        update: what an existing row takes from the incoming one.
        touched: what a changed row gets besides, from the model's `onupdate=` in Python.
        retouched: what a changed row gets besides, from the model's `onupdate=` in SQL.
    """

    table: Table
    facts: TableFacts
    given: tuple[Column[object], ...]
    filled: tuple[Column[object], ...]
    computed: Mapping[Column[object], SqlExpression]
    key: tuple[Column[object], ...]
    update: tuple[Column[object], ...]
    touched: tuple[Column[object], ...]
    retouched: Mapping[Column[object], SqlExpression]

    @property
    def sent(self) -> tuple[Column[object], ...]:
        """The columns whose values are sent, one array each, in this order."""
        return self.given + self.filled

    def column_facts(self, column: Column[object]) -> ColumnFacts:
        """What the database says of a column."""
        return self.facts.column(column.name)


def merge_shape(
    table: Table, facts: TableFacts, columns: Sequence[str], key: Sequence[str], update: Sequence[str]
) -> MergeShape:
    """Sort a table's columns by their parts in a merge. The arguments are those of `PostgresMerge`.

    Raises:
        UnknownColumnError: the table or the model has no such column.
        KeyNotUniqueError: no unique key covers exactly the key's columns.
        RequestError: a column is given twice or written by the database alone, or key or update name one not given.
    """
    _refuse_misuse(facts, columns, key, update)
    model = {column.name: column for column in table.columns}
    own = [column for name, column in model.items() if not facts.column(name).generated]
    absent = [column for column in own if column.name not in columns]
    untaken = [column for column in own if update and column.name not in {*update, *key}]
    computed = {column: sql_expression(column.default) for column in absent}
    retouched = {column: sql_expression(column.onupdate) for column in untaken}
    return MergeShape(
        table=table,
        facts=facts,
        given=tuple(_model_column(model, facts, name) for name in columns),
        filled=tuple(column for column in absent if value_maker(column.default)),
        computed={column: expression for column, expression in computed.items() if expression is not None},
        key=tuple(model[name] for name in facts.unique_key(tuple(key)).columns),
        update=tuple(model[name] for name in update),
        touched=tuple(column for column in untaken if value_maker(column.onupdate)),
        retouched={column: expression for column, expression in retouched.items() if expression is not None},
    )


def _model_column(model: Mapping[str, Column[object]], facts: TableFacts, name: str) -> Column[object]:
    try:
        return model[name]
    except KeyError:
        raise UnknownColumnError(facts.table, name, model) from None


def _refuse_misuse(facts: TableFacts, columns: Sequence[str], key: Sequence[str], update: Sequence[str]) -> None:
    for position, name in enumerate(columns):
        if facts.column(name).generated:
            raise RequestError(
                f"Column {name!r} of table {facts.table!r} is written by the database alone (generated, or GENERATED "
                "ALWAYS AS IDENTITY), so it cannot be given values. Leave it out of the source's columns"
            )
        if name in columns[:position]:
            raise RequestError(f"Column {name!r} of table {facts.table!r} is given twice. Name each column once")
    for part, names in {"key": key, "update": update}.items():
        missing = [name for name in names if name not in columns]
        if missing:
            raise RequestError(
                f"`{part}` names {', '.join(missing)}, but the rows for table {facts.table!r} do not carry that. They "
                f"carry: {', '.join(columns)}. Add it to the source, or leave it out of `{part}`"
            )
