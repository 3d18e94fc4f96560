"""A table made anew in another shape, with its rows: the one way to change a constraint that every database has.

Owns that. Refuses to say which shapes there are: a test builds them of SQLAlchemy's parts.
"""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Column, Constraint, MetaData, PrimaryKeyConstraint, Table, insert, select
from sqlalchemy.types import TypeEngine

from worker.database.engine import Database


def reshaped(
    table: Table,
    *added: Constraint | Column[Any],
    without: Collection[str] = (),
    types: Mapping[str, TypeEngine[Any]] | None = None,
    name: str | None = None,
) -> Table:
    """A copy of a table's definition, changed.

    Args:
        table: the table as a model has it.
        added: more constraints, and columns; a column replaces one of its name.
        without: the names of constraints that it shall lack.
        types: other types of columns.
        name: another name.
    """
    metadata = MetaData()
    for referred in {key.column.table for key in table.foreign_keys} - {table}:
        referred.to_metadata(metadata)
    copied = table.to_metadata(metadata, name=name or table.name)
    for constraint in [found for found in copied.constraints if found.name in without]:
        copied.constraints.discard(constraint)
    for column, type_ in (types or {}).items():
        copied.c[column].type = type_
    for part in added:
        if isinstance(part, Column):
            if not part.primary_key:
                _leave_key(copied, part.name)
            copied.append_column(part, replace_existing=True)
        else:
            copied.append_constraint(part)
    return copied


def _leave_key(table: Table, name: str) -> None:
    """See that a column is no part of the primary key any more."""
    if name in table.primary_key:
        rest = [column.name for column in table.primary_key if column.name != name]
        table.c[name].primary_key = False
        table.append_constraint(PrimaryKeyConstraint(*rest))


async def rebuild(
    database: Database,
    table: Table,
    *added: Constraint | Column[Any],
    without: Collection[str] = (),
    types: Mapping[str, TypeEngine[Any]] | None = None,
) -> Table:
    """Make a table anew as `reshaped` would have it, with the rows that it has; returns its definition."""
    shape = reshaped(table, *added, without=without, types=types)
    kept = [column for column in shape.c if column.name in table.c and column.computed is None]
    async with database.engine.begin() as connection:
        found = await connection.execute(select(*(table.c[column.name] for column in kept)))
        rows = [dict(row._mapping) for row in found]
        await connection.run_sync(table.drop)
        await connection.run_sync(shape.create)
        if rows:
            await connection.execute(insert(shape), rows)
    return shape
