"""A chunk's rows inside a statement, and how values are compared there."""

from typing import Any

from sqlalchemy import ColumnElement

from worker.core.table_facts import ColumnFacts


def differs(current: ColumnElement[Any], incoming: ColumnElement[Any], facts: ColumnFacts) -> ColumnElement[bool]:
    """Whether storing a value would change a row."""
    raise NotImplementedError
