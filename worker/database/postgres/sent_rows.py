"""A chunk's rows inside a statement: sent as one array a column, of several with one key the last, typed as stored.

```sql
SELECT DISTINCT ON (key) ... FROM unnest($1::type[], ...) WITH ORDINALITY AS sent ORDER BY key, position DESC
```

Owns what every statement over such rows shares, so that all compare keys and values as the database does. The text of
it depends on the columns, never on the number of rows.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import (
    CTE,
    Column,
    ColumnElement,
    Dialect,
    Select,
    TableValuedAlias,
    bindparam,
    cast,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.types import NullType

from worker.core.table_facts import ColumnFacts
from worker.database.postgres.exact_types import CatalogueType
from worker.database.postgres.sent_values import sent_type
from worker.database.row_shape import RowShape

# A cast to these, or to arrays of them, rounds as storing does. A cast to a text or bit type with its length would cut
# short what storing refuses, so a row could be taken for another's duplicate and vanish.
ROUNDED_TYPES: Final = frozenset(
    {
        *("numeric", "interval", "timestamp without time zone", "timestamp with time zone"),
        *("time without time zone", "time with time zone"),
    }
)


def value_name(position: int) -> str:
    """The name of the parameter that carries what is sent for the column at this position, from 0."""
    return f"v{position}"


def latest_rows(shape: RowShape, sent: Sequence[Column[object]], dialect: Dialect) -> CTE:
    """The rows to store: of those with one key, the last. As sent in c0, c1, ..., and the key in k0, k1, ...

    Args:
        shape: has the key.
        sent: the columns whose values are sent, one array each, in this order.
        dialect: of the connection that will run the statement.
    """
    rows = _unnested(shape, dict(enumerate(sent)))
    places = {column: rows.c[f"c{position}"] for position, column in enumerate(sent)}
    key = [comparable(places[column], column, shape.column_facts(column), dialect) for column in shape.key]
    chosen = select(*places.values(), *(part.label(f"k{at}") for at, part in enumerate(key)))
    return chosen.ext(distinct_on(*key)).order_by(*key, rows.c.position.desc()).cte("heavylift_latest")


def key_order(shape: RowShape, dialect: Dialect) -> Select[int, int]:
    """The statement that tells the order of rows by their keys, and which have one key.

    Args:
        shape: has the key.
        dialect: of the connection that will run it.

    Returns:
        A SELECT of a row for each one sent, in the order of the keys: its place among those sent, from 1, and the
        number of its key. Its parameters are those of `latest_rows` for the key's columns.
    """
    sent = {shape.given.index(column): column for column in shape.key}
    rows = _unnested(shape, sent)
    key = [comparable(rows.c[f"c{at}"], column, shape.column_facts(column), dialect) for at, column in sent.items()]
    number = func.dense_rank().over(order_by=key)
    return select(rows.c.position, number.label("number")).order_by(number, rows.c.position)


def sent_value(position: int, facts: ColumnFacts) -> ColumnElement[object]:
    """One value, sent by itself for the column at this position."""
    return cast(bindparam(value_name(position), type_=NullType()), CatalogueType(sent_type(facts)))


def converted(
    sent: ColumnElement[object], column: Column[object], facts: ColumnFacts, dialect: Dialect
) -> ColumnElement[object]:
    """A value as sent, as one of the column's type without its length: storing it refuses what is too long."""
    return _cast(sent, column, facts.type_name, dialect)


def comparable(
    sent: ColumnElement[object], column: Column[object], facts: ColumnFacts, dialect: Dialect
) -> ColumnElement[object]:
    """A value as sent, as the column's equality will see it once it is stored: rounded, padded, collated."""
    rounded = facts.type_name.removesuffix("[]") in ROUNDED_TYPES
    value = _cast(sent, column, facts.full_type if rounded else facts.type_name, dialect)
    return value if facts.collation is None else value.op("COLLATE")(literal_column(facts.collation))


def differs(current: ColumnElement[object], incoming: ColumnElement[object], facts: ColumnFacts) -> ColumnElement[bool]:
    """Whether storing a value would change a row; where equality overlooks changes, or there is none, by its text."""
    if facts.comparable:
        return current.is_distinct_from(incoming)
    return _text(current).is_distinct_from(_text(incoming))


def _unnested(shape: RowShape, sent: Mapping[int, Column[object]]) -> TableValuedAlias:
    """Rows of arrays: the array that is sent for each position becomes a column of that number."""
    arrays = [
        cast(bindparam(value_name(at), type_=NullType()), CatalogueType(f"{sent_type(shape.column_facts(column))}[]"))
        for at, column in sent.items()
    ]
    names = [f"c{at}" for at in sent]
    return func.unnest(*arrays).table_valued(*names, with_ordinality="position").render_derived(name="sent")


def _cast(sent: ColumnElement[object], column: Column[object], written: str, dialect: Dialect) -> ColumnElement[object]:
    expression = column.type.dialect_impl(dialect).bind_expression(sent)  # type: ignore[arg-type]  # any element will do
    return cast(sent if expression is None else expression, CatalogueType(written))


def _text(value: ColumnElement[object]) -> ColumnElement[object]:
    return cast(value, CatalogueType("text")).op("COLLATE")(literal_column('pg_catalog."C"'))
