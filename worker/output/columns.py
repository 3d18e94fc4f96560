"""Columns of a table as they go into a file: which hold documents, and which the database writes itself.

Owns what is asked of the database for a column. Documents are asked for as text, for a parser would round their
numbers, and so is what Python has no type for (a range, an address, a search vector): the database's own form is the
one that it reads back.
"""

from collections.abc import Iterable

from sqlalchemy import JSON, Column, ColumnElement, Text, cast

from worker.source.column_types import implied_type, undecorated


def documents(columns: Iterable[Column[object]]) -> frozenset[str]:
    """The names of those that hold JSON documents."""
    return frozenset(column.name for column in columns if _is_document(column))


def written(column: Column[object]) -> ColumnElement[object]:
    """What to select for a column, so that its values have a form in a file."""
    if not _is_document(column) and implied_type(column.type) is not object:
        return column
    # whoever selects it takes what comes, text here
    return cast(column, Text()).label(column.name)  # type: ignore[return-value]


def _is_document(column: Column[object]) -> bool:
    return isinstance(undecorated(column.type), JSON)
