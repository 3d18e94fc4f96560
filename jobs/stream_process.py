"""`stream_process`: give rows of a table to a function of the user's own, and write back what it changed.

Safe to run again at any point: what the function wrote on the run's session, the rows that it returned, the counts and
the place in the walk commit together. With `snapshot` the rows are those of one moment and nothing is locked while
they are read; without, each chunk's rows are as they are now, and locked in key order until the chunk commits.
"""

from collections.abc import AsyncIterator
from typing import Final

from pydantic import BaseModel, JsonValue
from sqlalchemy import ColumnElement, select

from jobs.changed_rows import RowChanges
from worker import (
    PROCESSORS,
    JobContext,
    RegisteredTable,
    RunOptions,
    Settings,
    TableFacts,
    Tables,
    check_refused,
    check_where,
    job,
    parse_where,
    primary_walk,
    where_clause,
)

COUNTERS: Final = ("processed", "updated", "unchanged", "missing", "quarantined")
"""What is counted: rows given to the processor; of those that it returned, what became of them."""

Rows = list[tuple[object, ...]]


class ProcessCounts(BaseModel):
    """What became of the rows.

    Attributes:
        processed: rows that were given to the processor.
        updated: rows that it returned and that really changed.
    """

    processed: int
    updated: int


def check_process(parameters: BaseModel, tables: Tables, settings: Settings, options: RunOptions) -> None:
    """Refuse at once what is known to fail without asking the database.

    Raises:
        RequestError: an unknown table or processor, an operation that is not allowed, a `where` that the table cannot
            answer.
    """
    del settings, options
    given = dict(parameters)
    check_where(parse_where(given["where"]), tables.allowed(given["table"], "read").table)
    PROCESSORS.get(given["processor"])


@job(check=check_process)
async def stream_process(
    ctx: JobContext,
    table: str,
    where: dict[str, JsonValue] | None = None,
    *,
    processor: str,
    snapshot: bool = False,
) -> ProcessCounts:
    """Give rows of a table to a function registered with `@processor`, chunk by chunk.

    Args:
        ctx: the run.
        table: a registered table with a primary key.
        where: which rows are meant; all of them unless given.
        processor: the function's name.
        snapshot: whether the rows are read as they were at one moment, without locks; else as they are when their
            chunk comes, and locked.

    Returns:
        The counts, over all attempts.
    """
    target = ctx.tables.allowed(table, "read")
    ctx.progress.count(**dict.fromkeys(COUNTERS, 0))
    function = PROCESSORS.get(processor)
    facts = await ctx.tools.table_facts(target.table)
    changes = RowChanges(ctx, target, facts, processor)
    matching = where_clause(parse_where(where), target.table, facts, ctx.started_at)
    chunks = _streamed(ctx, target, facts, matching) if snapshot else _locked(ctx, target, facts, matching)
    async for rows in chunks:
        _check_refused(ctx)
        if rows:
            ctx.progress.count(processed=len(rows))
            await changes.write(rows, await function(ctx, changes.given(rows)), locked=not snapshot)
    _check_refused(ctx)
    return ProcessCounts.model_validate(ctx.progress.counters)


async def _locked(
    ctx: JobContext, target: RegisteredTable, facts: TableFacts, matching: ColumnElement[bool]
) -> AsyncIterator[Rows]:
    """The rows as they are, locked until their chunk commits."""
    walk = primary_walk(target.table, facts)
    ctx.progress.total = facts.estimated_rows
    async for span in ctx.spans(walk, matching):
        met = select(*target.table.columns).where(span.condition).order_by(*walk.key)
        found = await ctx.tools.execute(met.with_for_update(of=target.table, key_share=True))
        yield [tuple(row) for row in found]


async def _streamed(
    ctx: JobContext, target: RegisteredTable, facts: TableFacts, matching: ColumnElement[bool]
) -> AsyncIterator[Rows]:
    """The rows as they were at one moment."""
    walk = primary_walk(target.table, facts)
    async for chunk in ctx.stream(select(*target.table.columns).where(matching), key=walk.key):
        yield [tuple(row) for row in chunk.rows]


def _check_refused(ctx: JobContext) -> None:
    # of the chunks that are committed
    counters = ctx.progress.counters
    check_refused(ctx.run_id, counters["processed"], counters["quarantined"])
