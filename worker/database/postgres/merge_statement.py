"""The one statement that merges a chunk: its text depends on the columns, never on the number of rows.

```sql
WITH latest AS (SELECT DISTINCT ON (key) ... FROM unnest($1::type[], ...) WITH ORDINALITY AS sent
                ORDER BY key, position DESC),
merged AS (INSERT INTO t (...) SELECT ... FROM latest ORDER BY key
           ON CONFLICT (key) DO UPDATE SET ... WHERE t.x IS DISTINCT FROM excluded.x OR ...
           RETURNING <whether it is new> AS is_new)
SELECT (SELECT count(*) FROM latest), count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new) FROM merged
```

Owns that shape. Refuses to send it, and to join anything: a plan made for an empty table stays good for a full one.
"""

from typing import Final

from sqlalchemy import (
    CTE,
    Column,
    ColumnElement,
    Dialect,
    Select,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import Insert, distinct_on, insert
from sqlalchemy.types import NullType, UserDefinedType

from worker.core.table_facts import ColumnFacts
from worker.database.postgres.merge_shape import MergeShape

FIRST_WITH_OLD_IN_RETURNING: Final = 18

# A cast to these rounds as storing does. A cast to a text or bit type with its length would cut short what storing
# refuses, so a row could be taken for another's duplicate and vanish.
ROUNDED_TYPES: Final = frozenset({"numeric", "timestamp", "timestamptz", "time", "timetz", "interval"})


class CatalogueType(UserDefinedType[object]):
    """A type in a cast, as the catalogue writes it.

    Args:
        written: such as `character varying`, `odd."Mood"`, `int4[]`.
    """

    cache_ok = True

    def __init__(self, written: str) -> None:
        self.written = written

    def get_col_spec(self, **_: object) -> str:
        """The text after AS in a CAST."""
        return self.written


def value_name(position: int) -> str:
    """The name of the parameter that carries the array of the column sent at this position, from 0."""
    return f"v{position}"


def touch_name(position: int) -> str:
    """The name of the parameter that carries the touched column at this position, from 0."""
    return f"t{position}"


def merge_statement(shape: MergeShape, dialect: Dialect) -> Select[int, int, int]:
    """The statement for a merge.

    Args:
        shape: which columns play which part.
        dialect: of the connection that will run it; its server's version decides how a new row is told from an old.

    Returns:
        A SELECT of one row: distinct keys sent, rows inserted, rows updated. Its parameters are named by `value_name`
        and `touch_name`.
    """
    latest = _latest(shape, dialect)
    merged = _insert(shape, latest, dialect).returning(_is_new(shape, dialect).label("is_new")).cte("heavylift_merged")
    return select(
        select(func.count()).select_from(latest).scalar_subquery(),
        func.count().filter(merged.c.is_new),
        func.count().filter(~merged.c.is_new),
    ).select_from(merged)


def key_order_statement(shape: MergeShape, dialect: Dialect) -> Select[int, int]:
    """The statement that tells the order of rows by their keys, and which have one key.

    Args:
        shape: which columns play which part.
        dialect: of the connection that will run it.

    Returns:
        A SELECT of a row for each one sent, in the order of the keys: its place among those sent, from 1, and the
        number of its key. Its parameters are named by `value_name`.
    """
    names = [value_name(shape.sent.index(column)) for column in shape.key]
    arrays = [
        cast(bindparam(name, type_=NullType()), CatalogueType(f"{shape.column_facts(column).driver_type}[]"))
        for name, column in zip(names, shape.key, strict=True)
    ]
    sent = func.unnest(*arrays).table_valued(*names, with_ordinality="position").render_derived(name="sent")
    key = [
        _comparable_key(sent.c[name], column, shape.column_facts(column), dialect)
        for name, column in zip(names, shape.key, strict=True)
    ]
    number = func.dense_rank().over(order_by=key)
    return select(sent.c.position, number.label("number")).order_by(number, sent.c.position)


def _latest(shape: MergeShape, dialect: Dialect) -> CTE:
    """The rows to store: of those with one key, the last. As sent in c0, c1, ..., and the key in k0, k1, ..."""
    arrays = [
        cast(
            bindparam(value_name(position), type_=NullType()),
            CatalogueType(f"{shape.column_facts(column).driver_type}[]"),
        )
        for position, column in enumerate(shape.sent)
    ]
    names = [f"c{position}" for position in range(len(arrays))]
    sent = func.unnest(*arrays).table_valued(*names, with_ordinality="position").render_derived(name="sent")
    key = [
        _comparable_key(sent.c[names[shape.sent.index(column)]], column, shape.column_facts(column), dialect)
        for column in shape.key
    ]
    rows = select(*(sent.c[name] for name in names), *(part.label(f"k{at}") for at, part in enumerate(key)))
    return rows.ext(distinct_on(*key)).order_by(*key, sent.c.position.desc()).cte("heavylift_latest")


def _insert(shape: MergeShape, latest: CTE, dialect: Dialect) -> Insert:
    stored = [_stored(latest.c[f"c{position}"], column, shape, dialect) for position, column in enumerate(shape.sent)]
    rows = select(*stored, *shape.computed.values()).order_by(*(latest.c[f"k{at}"] for at in range(len(shape.key))))
    statement = insert(shape.table).from_select([*shape.sent, *shape.computed], rows, include_defaults=False)
    if not shape.update:
        return statement.on_conflict_do_nothing(index_elements=shape.key)
    excluded = statement.excluded
    taken = {column: excluded[column.key] for column in shape.update}
    touched = {column: _touch(touch_name(at), shape.column_facts(column)) for at, column in enumerate(shape.touched)}
    return statement.on_conflict_do_update(
        index_elements=shape.key,
        set_={**taken, **touched, **shape.retouched},
        where=or_(*(_differs(old, new, comparable=shape.column_facts(old).comparable) for old, new in taken.items())),
    )


def _converted(
    sent: ColumnElement[object], column: Column[object], written: str, dialect: Dialect
) -> ColumnElement[object]:
    expression = column.type.dialect_impl(dialect).bind_expression(sent)  # type: ignore[arg-type]  # any element will do
    return cast(sent if expression is None else expression, CatalogueType(written))


def _comparable_key(
    sent: ColumnElement[object], column: Column[object], facts: ColumnFacts, dialect: Dialect
) -> ColumnElement[object]:
    """A key's value as the unique index will compare it: rounded, padded, collated as the column is."""
    written = facts.full_type if facts.driver_type in ROUNDED_TYPES else facts.type_name
    value = _converted(sent, column, written, dialect)
    return value if facts.collation is None else value.op("COLLATE")(literal_column(facts.collation))


def _stored(
    sent: ColumnElement[object], column: Column[object], shape: MergeShape, dialect: Dialect
) -> ColumnElement[object]:
    facts = shape.column_facts(column)
    value = _converted(sent, column, facts.type_name, dialect)
    if facts.nullable or facts.default is None or column in shape.key:
        return value
    default = cast(literal_column(facts.default), CatalogueType(facts.type_name))
    return case((sent.is_(None), default), else_=value)


def _touch(name: str, facts: ColumnFacts) -> ColumnElement[object]:
    sent = cast(bindparam(name, type_=NullType()), CatalogueType(facts.driver_type))
    return cast(sent, CatalogueType(facts.type_name))


def _differs(
    current: ColumnElement[object], incoming: ColumnElement[object], *, comparable: bool
) -> ColumnElement[bool]:
    if comparable:
        return current.is_distinct_from(incoming)
    return _text(current).is_distinct_from(_text(incoming))


def _text(value: ColumnElement[object]) -> ColumnElement[object]:
    return cast(value, CatalogueType("text")).op("COLLATE")(literal_column('pg_catalog."C"'))


def _is_new(shape: MergeShape, dialect: Dialect) -> ColumnElement[bool]:
    """Whether a returned row was inserted rather than updated."""
    major = (dialect.server_version_info or (0,))[0]
    preparer = dialect.identifier_preparer
    key = shape.key[0]
    # To a table of that very name, `old` would mean the row as it is now.
    if int(major) >= FIRST_WITH_OLD_IN_RETURNING and shape.table.name != "old":
        return literal_column(f"old.{preparer.quote(key.name)} IS NULL")
    if shape.facts.partitioned:
        return _unseen(shape, dialect)
    # A new row version is nobody's yet, while an updated one carries the lock under which ON CONFLICT took it.
    return literal_column("xmax = 0")


def _unseen(shape: MergeShape, dialect: Dialect) -> ColumnElement[bool]:
    """Whether the statement's snapshot lacks a returned row's key.

    Before version 18 a partitioned table returns nothing that tells new from old. What others commit between the
    snapshot and the row's turn is taken for new here: a row too many among the inserted, one too few in the updated.
    """
    preparer = dialect.identifier_preparer
    before = shape.table.alias("heavylift_before")
    target = preparer.quote(shape.table.name)
    same = [before.c[key.key] == literal_column(f"{target}.{preparer.quote(key.name)}") for key in shape.key]
    return ~exists(select(literal_column("1")).select_from(before).where(*same))
