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
    case,
    cast,
    exists,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import Insert, insert

from worker.database.merge_shape import MergeShape
from worker.database.postgres.exact_types import CatalogueType
from worker.database.postgres.sent_rows import converted, differs, latest_rows
from worker.database.postgres.touches import touching
from worker.database.row_shape import RowShape

FIRST_WITH_OLD_IN_RETURNING: Final = 18


def merge_statement(shape: MergeShape, dialect: Dialect) -> Select[int, int, int]:
    """The statement for a merge.

    Args:
        shape: which columns play which part.
        dialect: of the connection that will run it; its server's version decides how a new row is told from an old.

    Returns:
        A SELECT of one row: distinct keys sent, rows inserted, rows updated. Its parameters are those of `latest_rows`
        and of `Touches`.
    """
    latest = latest_rows(shape.rows, shape.sent, dialect)
    is_new = _is_new(shape.rows, dialect).label("is_new")
    merged = _insert(shape, latest, dialect).returning(is_new).cte("heavylift_merged")
    return select(
        select(func.count()).select_from(latest).scalar_subquery(),
        func.count().filter(merged.c.is_new),
        func.count().filter(~merged.c.is_new),
    ).select_from(merged)


def _insert(shape: MergeShape, latest: CTE, dialect: Dialect) -> Insert:
    rows = shape.rows
    stored = [_stored(latest.c[f"c{position}"], column, rows, dialect) for position, column in enumerate(shape.sent)]
    chosen = select(*stored, *shape.computed.values()).order_by(*(latest.c[f"k{at}"] for at in range(len(rows.key))))
    statement = insert(rows.table).from_select([*shape.sent, *shape.computed], chosen, include_defaults=False)
    if not rows.update:
        return statement.on_conflict_do_nothing(index_elements=rows.key)
    taken = {column: statement.excluded[column.key] for column in rows.update}
    return statement.on_conflict_do_update(
        index_elements=rows.key,
        set_={**taken, **touching(rows)},
        where=or_(*(differs(old, new, rows.column_facts(old)) for old, new in taken.items())),
    )


def _stored(
    sent: ColumnElement[object], column: Column[object], shape: RowShape, dialect: Dialect
) -> ColumnElement[object]:
    facts = shape.column_facts(column)
    value = converted(sent, column, facts, dialect)
    if facts.nullable or facts.default is None or column in shape.key:
        return value
    default = cast(literal_column(facts.default), CatalogueType(facts.type_name))
    return case((sent.is_(None), default), else_=value)


def _is_new(shape: RowShape, dialect: Dialect) -> ColumnElement[bool]:
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


def _unseen(shape: RowShape, dialect: Dialect) -> ColumnElement[bool]:
    """Whether the statement's snapshot lacks a returned row's key.

    Before version 18 a partitioned table returns nothing that tells new from old. What others commit between the
    snapshot and the row's turn is taken for new here: a row too many among the inserted, one too few in the updated.
    """
    preparer = dialect.identifier_preparer
    before = shape.table.alias("heavylift_before")
    target = preparer.quote(shape.table.name)
    same = [before.c[key.key] == literal_column(f"{target}.{preparer.quote(key.name)}") for key in shape.key]
    return ~exists(select(literal_column("1")).select_from(before).where(*same))
