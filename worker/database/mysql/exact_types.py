"""The types under which a column's values are read and bound exactly, whatever a model says of the column."""

from sqlalchemy import ColumnElement

from worker.core.table_facts import ColumnFacts


def as_stored(value: ColumnElement[object], facts: ColumnFacts) -> ColumnElement[object]:
    """An expression's value as the column would have it."""
    raise NotImplementedError
