"""A chunk's rows inside a statement."""

from sqlalchemy import ColumnElement

from worker.core.table_facts import ColumnFacts


def differs(current: ColumnElement[object], incoming: ColumnElement[object], facts: ColumnFacts) -> ColumnElement[bool]:
    """Whether storing a value would change a row."""
    raise NotImplementedError
