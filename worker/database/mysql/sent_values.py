"""Python values, a column at a time, in the form that they are sent in."""

from sqlalchemy import Column, Dialect

from worker.core.table_facts import ColumnFacts
from worker.database.dialect import Encoder


def column_encoder(column: Column[object], facts: ColumnFacts, dialect: Dialect) -> Encoder:
    """How one column's values travel."""
    raise NotImplementedError
