"""A chunk's rows inside a statement: one parameter, a JSON list of rows, each a list of texts.

```sql
SELECT * FROM JSON_TABLE(:rows, '$[*]' COLUMNS (place FOR ORDINALITY, c0 LONGTEXT PATH '$[0]', ...)) AS sent
```

Owns what every statement over such rows shares, so that all compare keys and values as the database does. The text of
it depends on the columns, never on the number of rows.
"""

from collections.abc import Sequence
from typing import Any, Final

import orjson
from sqlalchemy import Column, ColumnClause, ColumnElement, Dialect, Integer, Subquery, Text, and_, column, func, text

from worker.core.table_facts import ColumnFacts
from worker.database.mysql.casts import CastAs, bare
from worker.database.mysql.sent_values import in_json
from worker.database.mysql.stored_forms import differs, stored_form
from worker.database.row_shape import RowShape

__all__ = ["PLACE", "ROWS", "SentRows", "converted", "differs", "json_table", "packed", "rows_text"]

ROWS: Final = "heavylift_rows"
"""The name of the parameter that carries the rows."""

PLACE: Final = "place"
"""The column that says which of the rows one is, from 1."""

# unsaid, it would be the database's character set, which may lack characters
_TEXT: Final = "LONGTEXT CHARACTER SET utf8mb4"

Rows = Sequence[Sequence[object]]
"""Rows of sendable values."""


class SentRows:
    """Rows of some columns, as a table in a statement.

    Attributes:
        table: that table: its columns are `PLACE` and c0, c1, ... in the order of `columns`.

    Args:
        shape: has facts and key.
        columns: those whose values each row has, in this order; the key's are among them.
        dialect: of the connection that will run the statement.
    """

    def __init__(self, shape: RowShape, columns: Sequence[Column[object]], dialect: Dialect) -> None:
        self._shape = shape
        self._dialect = dialect
        self._columns = tuple(columns)
        self.table = json_table(len(self._columns))

    def raw(self, of: Column[object]) -> ColumnElement[Any]:
        """A column's value as it was sent."""
        return self.table.c[f"c{self._columns.index(of)}"]

    def value(self, of: Column[object]) -> ColumnElement[Any]:
        """A column's value, to be stored."""
        return converted(self.raw(of), of, self._shape.column_facts(of), self._dialect)

    def stored(self, of: Column[object]) -> ColumnElement[Any]:
        """A column's value, as its equality will see it once it is stored."""
        facts = self._shape.column_facts(of)
        return stored_form(_meant(self.raw(of), of, facts, self._dialect), facts)

    def same_key(self) -> ColumnElement[bool]:
        """Whether a row of the shape's table has the key of a row that was sent."""
        return and_(*(bare(part) == self.stored(part) for part in self._shape.key))


def packed(rows: Rows) -> str:
    """Rows as the parameter `ROWS` takes them."""
    columns = [in_json(values) for values in zip(*rows, strict=True)]
    return orjson.dumps([*zip(*columns, strict=True)]).decode()


def converted(
    sent: ColumnElement[Any], column: Column[object], facts: ColumnFacts, dialect: Dialect
) -> ColumnElement[Any]:
    """A value as sent, such that storing it stores what was meant, or refuses it."""
    value = _meant(sent, column, facts, dialect)
    # their texts would be taken for bits, and for years of two digits
    return CastAs(value, "UNSIGNED") if facts.type_name in {"bit", "year"} else value


def _meant(
    sent: ColumnElement[Any], column: Column[object], facts: ColumnFacts, dialect: Dialect
) -> ColumnElement[Any]:
    value = func.unhex(sent) if facts.driver_type == "bytea" else sent
    expression = column.type.dialect_impl(dialect).bind_expression(value)  # type: ignore[arg-type]  # any element will do
    return value if expression is None else expression


def json_table(width: int) -> Subquery:
    """So many columns of text, c0, c1, ..., beside the rows' `PLACE`."""
    named: list[ColumnClause[Any]] = [column(PLACE, Integer), *(column(f"c{at}", Text) for at in range(width))]
    return text(rows_text(width)).columns(*named).subquery("heavylift_sent")


def rows_text(width: int) -> str:
    """The same as the text of a SELECT, whose parameter is `ROWS`."""
    parts = ", ".join([f"{PLACE} FOR ORDINALITY", *(f"c{at} {_TEXT} PATH '$[{at}]'" for at in range(width))])
    return f"SELECT * FROM JSON_TABLE(:{ROWS}, '$[*]' COLUMNS ({parts})) AS heavylift_json"  # noqa: S608 - constant texts
