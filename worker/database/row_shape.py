"""Which columns play which part when rows of a table are changed.

Owns that sorting, and the refusal of what could not work, before anything is sent. Knows no SQL.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Column, Table

from worker.core.errors import RequestError, UnknownColumnError
from worker.core.table_facts import ColumnFacts, TableFacts
from worker.database.model_defaults import SqlExpression, sql_expression, value_maker


@dataclass(frozen=True, slots=True)
class RowShape:
    """Which columns play which part when rows are changed.

    Attributes:
        table: the registered table: where every identifier comes from.
        facts: what the database says of it.
        given: the columns that the caller has values for, in the caller's order.
        key: what tells rows apart, in the order of its constraint, so that all who lock by it lock in one order.
        update: what an existing row takes from the values given.
        touched: what a changed row gets besides, from the model's `onupdate=` in Python.
        retouched: what a changed row gets besides, from the model's `onupdate=` in SQL.
    """

    table: Table
    facts: TableFacts
    given: tuple[Column[object], ...]
    key: tuple[Column[object], ...]
    update: tuple[Column[object], ...]
    touched: tuple[Column[object], ...]
    retouched: Mapping[Column[object], SqlExpression]

    @property
    def keys_stay(self) -> bool:
        """Whether no unique key can change, so that rows which refer to these may go on being inserted."""
        unique = {name for key in self.facts.unique_keys for name in key.columns}
        return unique.isdisjoint(column.name for column in self.update)

    def column_facts(self, column: Column[object]) -> ColumnFacts:
        """What the database says of a column."""
        return self.facts.column(column.name)


def row_shape(
    table: Table, facts: TableFacts, *, columns: Sequence[str], key: Sequence[str], update: Sequence[str]
) -> RowShape:
    """Sort the columns of rows that carry their key.

    Args:
        table: the registered table.
        facts: what the database says of it.
        columns: the columns given values, in the caller's order.
        key: which of them tell rows apart: the columns of a unique key, in any order.
        update: which of them an existing row takes.

    Raises:
        UnknownColumnError: the table or the model has no such column.
        KeyNotUniqueError: no unique key covers exactly the key's columns.
        RequestError: a column is given twice or written by the database alone, or key or update name one not given.
    """
    _refuse_misuse(facts, columns)
    for part, names in {"key": key, "update": update}.items():
        _refuse_lacking(facts, columns, part, names)
    return _sorted(table, facts, columns, facts.unique_key(tuple(key)).columns, update)


def update_shape(table: Table, facts: TableFacts, *, columns: Sequence[str], key: Sequence[str]) -> RowShape:
    """Sort the columns of rows that carry their key, and of which all else is to be changed.

    Args:
        table: the registered table.
        facts: what the database says of it.
        columns: the columns given values, in the caller's order.
        key: which of them tell rows apart: the columns of a unique key, in any order.

    Raises:
        UnknownColumnError: the table or the model has no such column.
        KeyNotUniqueError: no unique key covers exactly the key's columns.
        RequestError: a column is given twice or written by the database alone, the key names one not given, or there
            is nothing but the key.
    """
    changed = [name for name in columns if name not in key]
    shape = row_shape(table, facts, columns=columns, key=key, update=changed)
    if not changed:
        raise RequestError(
            f"The rows for table {facts.table!r} carry nothing but their key ({', '.join(key)}), so there is "
            "nothing to update. Add the columns to change to the source, for example "
            f'{{"{key[0]}": 1, "status": "closed"}}'
        )
    return shape


def set_shape(table: Table, facts: TableFacts, columns: Sequence[str]) -> RowShape:
    """Sort the columns where many rows take the same values; the primary key tells rows apart, and stays.

    Args:
        table: the registered table.
        facts: what the database says of it.
        columns: the columns given values, in the caller's order.

    Raises:
        UnknownColumnError: the table or the model has no such column.
        KeyNotUniqueError: the table has no primary key.
        RequestError: a column is given twice, written by the database alone, or part of the primary key.
    """
    _refuse_misuse(facts, columns)
    key = facts.unique_key(None).columns
    taken = [name for name in columns if name in key]
    if taken:
        raise RequestError(
            f"Column {taken[0]!r} is part of the primary key of table {facts.table!r} ({', '.join(key)}), which tells "
            "its rows apart: many rows cannot be given one value of it. Leave it out"
        )
    return _sorted(table, facts, columns, key, columns)


def _sorted(
    table: Table, facts: TableFacts, columns: Sequence[str], key: Sequence[str], update: Sequence[str]
) -> RowShape:
    model = {column.name: column for column in table.columns}
    own = [column for name, column in model.items() if not facts.column(name).generated]
    untaken = [column for column in own if update and column.name not in {*update, *key}]
    retouched = {column: sql_expression(column.onupdate) for column in untaken}
    return RowShape(
        table=table,
        facts=facts,
        given=tuple(_model_column(model, facts, name) for name in columns),
        key=tuple(model[name] for name in key),
        update=tuple(model[name] for name in update),
        touched=tuple(column for column in untaken if value_maker(column.onupdate)),
        retouched={column: expression for column, expression in retouched.items() if expression is not None},
    )


def _model_column(model: Mapping[str, Column[object]], facts: TableFacts, name: str) -> Column[object]:
    try:
        return model[name]
    except KeyError:
        raise UnknownColumnError(facts.table, name, model) from None


def _refuse_misuse(facts: TableFacts, columns: Sequence[str]) -> None:
    for position, name in enumerate(columns):
        if facts.column(name).generated:
            raise RequestError(
                f"Column {name!r} of table {facts.table!r} is written by the database alone (generated, or GENERATED "
                "ALWAYS AS IDENTITY), so it cannot be given values. Leave it out"
            )
        if name in columns[:position]:
            raise RequestError(f"Column {name!r} of table {facts.table!r} is given twice. Name each column once")


def _refuse_lacking(facts: TableFacts, columns: Sequence[str], part: str, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in columns]
    if missing:
        raise RequestError(
            f"`{part}` names {', '.join(missing)}, but the rows for table {facts.table!r} do not carry that. They "
            f"carry: {', '.join(columns)}. Add it to the source, or leave it out of `{part}`"
        )
