"""The statements that lock rows and update them: each row with values of its own, or many rows with the same ones.

```sql
SELECT sent.place FROM (<rows sent>) AS sent STRAIGHT_JOIN t FORCE INDEX (key) ON t.key = sent.key FOR UPDATE
UPDATE (<rows sent>) AS sent STRAIGHT_JOIN t FORCE INDEX (key) ON t.key = sent.key
SET t.x = sent.x, ... WHERE NOT (t.x <=> sent.x) OR ...
```

The first locks, in the order in which the rows are sent, and says which exist. The second judges and writes rows that
are locked, so what it counts is what it changed. Owns their shape. Refuses to send them.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Dialect,
    Select,
    Text,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.mysql.base import MySQLDialect

from worker.core.table_facts import ColumnFacts
from worker.database.mysql.nested_join import NestedJoin
from worker.database.mysql.plain_update import PlainUpdate
from worker.database.mysql.sent_rows import PLACE, SentRows, converted
from worker.database.mysql.stored_forms import differs, stored_form
from worker.database.mysql.touches import touching
from worker.database.mysql.type_words import AUTO_INCREMENT
from worker.database.row_shape import RowShape

ALL: Final = 2**64 - 1
"""A LIMIT that keeps a subquery's order and leaves nothing out."""


def lock_statement(shape: RowShape, dialect: Dialect) -> Select[int]:
    """The statement that locks rows by their keys, in the order in which these are sent.

    Args:
        shape: has the key.
        dialect: of the connection that will run it.

    Returns:
        A SELECT of the places of those that exist. Its parameter holds rows of the key's columns alone.
    """
    sent = SentRows(shape, shape.key, dialect)
    return select(sent.table.c[PLACE]).select_from(_found(shape, sent)).with_for_update()


def update_statement(shape: RowShape, columns: tuple[Column[object], ...], dialect: Dialect) -> PlainUpdate:
    """The statement that gives each row values of its own.

    Args:
        shape: which columns play which part.
        columns: those that are sent, in this order.
        dialect: of the connection that will run it.

    Returns:
        An UPDATE of the rows that differ. Its parameters are rows of all columns given, and those of `Touches`.
    """
    sent = SentRows(shape, columns, dialect)
    new = {column: _or_default(sent.value(column), sent.raw(column), column, shape, dialect) for column in shape.update}
    seen = {
        column: _or_default(sent.stored(column), sent.raw(column), column, shape, dialect) for column in shape.update
    }
    return PlainUpdate(_found(shape, sent), {**new, **touching(shape, dialect)}, _changes(shape, seen))


def where_lock_statement(shape: RowShape, dialect: Dialect, condition: ColumnElement[bool]) -> Select[int, int]:
    """The statement that locks all rows for which a condition holds.

    Returns:
        A SELECT of one row: how many there are, and how many of them the values would change. Its parameters are
        those of `value_name`.
    """
    change = case((_changes(shape, _values_seen(shape, dialect)), 1), else_=0).label("change")
    met = select(change).where(condition).order_by(*shape.key).limit(literal_column(str(ALL))).with_for_update()
    locked = met.subquery("heavylift_locked")
    return select(func.count(), func.coalesce(func.sum(locked.c.change), 0)).select_from(locked)


def where_update_statement(shape: RowShape, dialect: Dialect, condition: ColumnElement[bool]) -> PlainUpdate:
    """The statement that gives the same values to all rows for which a condition holds, and that differ."""
    new = {
        column: converted(_sent_value(at), column, shape.column_facts(column), dialect)
        for at, column in enumerate(shape.given)
    }
    changes = _changes(shape, _values_seen(shape, dialect))
    return PlainUpdate(shape.table, {**new, **touching(shape, dialect)}, and_(condition, changes))


def value_name(position: int) -> str:
    """The name of the parameter that carries the one value for the column at this position, from 0."""
    return f"heavylift_value_{position}"


def _sent_value(position: int) -> ColumnElement[Any]:
    return bindparam(value_name(position), type_=Text())


def _values_seen(shape: RowShape, dialect: Dialect) -> Mapping[Column[object], ColumnElement[Any]]:
    facts = {column: shape.column_facts(column) for column in shape.given}
    return {
        column: stored_form(converted(_sent_value(at), column, facts[column], dialect), facts[column])
        for at, column in enumerate(shape.given)
    }


def _found(shape: RowShape, sent: SentRows) -> NestedJoin:
    index = shape.facts.unique_key(tuple(column.name for column in shape.key)).name
    return NestedJoin(sent.table, shape.table, sent.same_key(), index)


def _changes(shape: RowShape, seen: Mapping[Column[object], ColumnElement[Any]]) -> ColumnElement[bool]:
    return or_(*(differs(column, value, shape.column_facts(column)) for column, value in seen.items()))


def _or_default(
    value: ColumnElement[Any], sent: ColumnElement[Any], column: Column[object], shape: RowShape, dialect: Dialect
) -> ColumnElement[Any]:
    """A value; the database's default where it is None and may not be."""
    facts = shape.column_facts(column)
    if facts.nullable or facts.default is None or column in shape.key:
        return value
    return case((sent.is_(None), _default(column, facts, dialect)), else_=value)


def _default(column: Column[object], facts: ColumnFacts, dialect: Dialect) -> ColumnElement[Any]:
    if facts.default == AUTO_INCREMENT:
        # a row that is there has its number
        return column
    if isinstance(dialect, MySQLDialect) and dialect.is_mariadb:
        return func.default(column)
    # MySQL has no DEFAULT(column) of an expression
    return literal_column(f"({facts.default})")
