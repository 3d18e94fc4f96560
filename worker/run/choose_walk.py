"""The walk of a run over a table, for a `where`: which index it follows, and which range of it.

Owns asking the database once, when the run starts, and keeping to the answer: the cursor says which columns its keys
are of. Refuses to decide: `worker.core.walk_choice` does.
"""

from datetime import datetime

from sqlalchemy import Table

from worker.core.cursor import Cursor
from worker.core.table_facts import TableFacts
from worker.core.walk_choice import bounds, choose_lead, may_lead
from worker.core.where import Condition
from worker.database.engine import Database
from worker.declare.walk import Walk, WalkCursor, primary_walk, walk_by
from worker.run.where import where_clause


async def choose_walk(
    database: Database,
    table: Table,
    facts: TableFacts,
    condition: Condition,
    started_at: datetime,
    cursor: Cursor | None,
) -> Walk:
    """The walk that visits the fewest rows, of those by the primary key and along an index that bounds the `where`.

    A walk along an index meets a row where its column's value puts it: one whose value another session changes
    meanwhile, from a place ahead of the walk to one behind it, is not met.

    Args:
        database: where the table is.
        table: a registered one.
        facts: what the database says of it.
        condition: which rows are meant.
        started_at: what ages are counted from.
        cursor: where the run stands; None asks the planner.

    Raises:
        RequestError: the table has no primary key.
    """
    primary = primary_walk(table, facts)
    order = WalkCursor.parse(cursor).order
    lead = order[0] if order else await _lead(database, primary, facts, condition, started_at)
    bound = bounds(condition).get(lead)
    base = None if bound is None else where_clause(bound, table, facts, started_at)
    if lead == primary.names[0] or lead not in table.columns:
        return walk_by(table, primary.key, facts, base)
    rest = tuple(column for column in primary.key if column.name != lead)
    return walk_by(table, (table.columns[lead], *rest), facts, base)


async def _lead(
    database: Database, primary: Walk, facts: TableFacts, condition: Condition, started_at: datetime
) -> str:
    table, first = primary.table, primary.names[0]
    asked = bounds(condition)
    if facts.estimated_rows is None or not asked.keys() - {first}:
        return first
    async with database.reading() as connection:
        leading = await database.dialect.leading_columns(connection, table)
        able = {one.name for one in leading if one.name in asked and may_lead(one, facts.column(one.name))}
        estimates = {first: facts.estimated_rows}
        for name in able | (asked.keys() & {first}):
            clause = where_clause(asked[name], table, facts, started_at)
            estimates[name] = await database.dialect.estimate_rows(connection, table, clause)
    return choose_lead(first, estimates)
