"""What is known beforehand of a walk on SQLite: which columns lead an index, and how many rows a condition means.

SQLite's planner tells no number of rows. ANALYZE writes down how many rows share the first column of an index; how many
rows a condition means is counted, up to a bound. Refuses to choose: `worker.core.walk_choice` does.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, Table, column, func, literal, select
from sqlalchemy import table as named_table
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.table_facts import TableFacts
from worker.core.walk_choice import LeadingColumn
from worker.database.sqlite.catalogue import has_rowid_key, read_table_facts
from worker.database.sqlite.indexes import Index, place_of, read_indexes

COUNTED: Final = 100_000
"""Rows that are counted of a condition at most: some milliseconds along an index."""


async def leading_columns(connection: AsyncConnection, table: Table) -> list[LeadingColumn]:
    """The columns that come first in a complete index of the column's own order, as far as their statistics are known.

    Args:
        connection: to an SQLite.
        table: a registered one.
    """
    facts = await read_table_facts(connection, table)
    primary = next((key.columns for key in facts.unique_keys if key.primary), ())
    if not primary or facts.estimated_rows is None:
        return []
    collations = {name: known.collation for name, known in facts.columns.items()}
    shares = await _rows_per_value(connection, table)
    # an index goes on with the rowid, which a primary key of one INTEGER is
    rowid = primary[0] if has_rowid_key(facts) else None
    found: dict[str, float] = {}
    for index in await read_indexes(connection, place_of(table)):
        first = index.columns[0]
        if index.partial or not index.orders_as(collations):
            continue
        share = 1.0 if _goes_on_with(index, primary, rowid) else shares.get(index.name)
        if share is not None:
            found[first] = min(share, found.get(first, share))
    return [LeadingColumn(name, share) for name, share in found.items()]


async def estimate_rows(connection: AsyncConnection, table: Table, condition: ColumnElement[bool]) -> int:
    """How many rows of a table pass a condition, or about how many the table has, where those are too many to count.

    Args:
        connection: to an SQLite.
        table: a registered one.
        condition: over its columns; of a column that leads an index, or every row is looked at.
    """
    some = select(literal(1)).select_from(table).where(condition).limit(COUNTED + 1).subquery()
    counted: int = (await connection.execute(select(func.count()).select_from(some))).scalar_one()
    if counted <= COUNTED:
        return counted
    facts: TableFacts = await read_table_facts(connection, table)
    return max(counted, facts.estimated_rows or 0)


async def _rows_per_value(connection: AsyncConnection, table: Table) -> dict[str, float]:
    """By index, how many rows share a value of its first column, as ANALYZE found."""
    statistics = named_table(
        "sqlite_stat1", column("tbl"), column("idx"), column("stat"), schema=place_of(table)["schema"]
    )
    of_table = func.lower(statistics.c.tbl) == table.name.lower()
    rows = await connection.execute(select(statistics.c.idx, statistics.c.stat).where(of_table))
    numbers = {index: stat.split()[:2] for index, stat in rows if index and stat}
    return {index: float(parts[1]) for index, parts in numbers.items() if len(parts) > 1 and parts[1].isdigit()}


def _goes_on_with(index: Index, primary: Sequence[str], rowid: str | None) -> bool:
    """Whether rows that share a value of an index's first column are in the order of the primary key."""
    order = [rowid if name is None else name for name in index.order]
    rest = [name for name in primary if name != index.columns[0]]
    return order[:1] == [index.columns[0]] and order[1 : len(rest) + 1] == rest
