"""The statements that update rows which are there: each row with values of its own, or many rows with the same ones.

```sql
WITH latest AS (...),                                         -- of the rows sent, the last of each key
locked AS (SELECT t.key, new values, t.x IS DISTINCT FROM new.x OR ... AS differs
           FROM t JOIN latest USING (key) ORDER BY key FOR NO KEY UPDATE OF t),
changed AS (UPDATE t SET x = locked.x, ... FROM locked WHERE t.key = locked.key AND locked.differs RETURNING ...)
SELECT (SELECT count(*) FROM latest), (SELECT count(*) FROM locked), (SELECT count(*) FROM changed)
```

Rows are locked in key order, whatever order the UPDATE would take them in. Under READ COMMITTED a row that somebody
else changes between the snapshot and its lock is judged again as it is once it is locked: what differs, and which rows
are meant, is decided there and nowhere else, so nothing is counted that was not locked, and nobody's change is missed.

Owns that shape. Refuses to send it.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import CTE, Column, ColumnElement, Dialect, Select, and_, func, literal_column, or_, select, update

from worker.database.postgres.sent_rows import comparable, converted, differs, latest_rows, sent_value
from worker.database.postgres.touches import touching
from worker.database.row_shape import RowShape

_DIFFERS: Final = "differs"

Values = Mapping[Column[object], ColumnElement[object]]


def row_update_statement(shape: RowShape, dialect: Dialect) -> Select[int, int, int]:
    """The statement that gives each row values of its own.

    Args:
        shape: which columns play which part.
        dialect: of the connection that will run it.

    Returns:
        A SELECT of one row: distinct keys sent, rows that exist, rows changed. Its parameters are those of
        `latest_rows` and of `Touches`.
    """
    latest = latest_rows(shape, shape.given, dialect)
    sent = {column: latest.c[f"c{shape.given.index(column)}"] for column in shape.update}
    new = [
        converted(value, column, shape.column_facts(column), dialect).label(f"n{at}")
        for at, (column, value) in enumerate(sent.items())
    ]
    found = shape.table.join(latest, _same_key(shape, latest))
    locked = _locked(shape, select(*_key(shape), *new, _change(shape, sent, dialect)).select_from(found))
    changed = _changed(shape, locked, {column: locked.c[f"n{at}"] for at, column in enumerate(sent)})
    return select(_count(latest), _count(locked), _count(changed))


def where_update_statement(shape: RowShape, dialect: Dialect, condition: ColumnElement[bool]) -> Select[int, int]:
    """The statement that gives the same values to all rows for which a condition holds.

    Args:
        shape: which columns play which part.
        dialect: of the connection that will run it.
        condition: over the table's columns.

    Returns:
        A SELECT of one row: rows for which the condition holds, rows changed. Its parameters are those of
        `sent_value` and of `Touches`.
    """
    sent = {column: sent_value(at, shape.column_facts(column)) for at, column in enumerate(shape.given)}
    new = {column: converted(value, column, shape.column_facts(column), dialect) for column, value in sent.items()}
    locked = _locked(shape, select(*_key(shape), _change(shape, sent, dialect)).where(condition))
    # the condition once more: a planner that takes the locked rows for many must not read the whole table for them
    return select(_count(locked), _count(_changed(shape, locked, new, condition)))


def _key(shape: RowShape) -> list[ColumnElement[object]]:
    return [column.label(f"k{at}") for at, column in enumerate(shape.key)]


def _same_key(shape: RowShape, rows: CTE) -> ColumnElement[bool]:
    return and_(*(column == rows.c[f"k{at}"] for at, column in enumerate(shape.key)))


def _change(shape: RowShape, sent: Values, dialect: Dialect) -> ColumnElement[bool]:
    """Whether a row is to be written."""
    facts = {column: shape.column_facts(column) for column in sent}
    differences = [
        differs(column, comparable(value, column, facts[column], dialect), facts[column])
        for column, value in sent.items()
    ]
    return or_(*differences).label(_DIFFERS)


def _locked(shape: RowShape, met: "Select[*tuple[Any, ...]]") -> CTE:
    return met.order_by(*shape.key).with_for_update(of=shape.table, key_share=shape.keys_stay).cte("heavylift_locked")


def _changed(shape: RowShape, locked: CTE, new: Values, *conditions: ColumnElement[bool]) -> CTE:
    changing = update(shape.table).where(_same_key(shape, locked), locked.c[_DIFFERS], *conditions)
    written = changing.values({**new, **touching(shape)})
    return written.returning(literal_column("1")).cte("heavylift_changed")


def _count(rows: CTE) -> ColumnElement[int]:
    return select(func.count()).select_from(rows).scalar_subquery()
