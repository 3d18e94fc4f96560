"""`chunked_delete`: delete the rows of a table that are meant, chunk by chunk, each kept in an archive first if wanted.

Safe to run again at any point: a chunk's deletes, its archived rows, its counts and its place in the table commit
together. It locks the rows of one chunk at a time, in key order. A row that the database will not let go stays, and is
put aside with the reason.
"""

from typing import Final

from pydantic import BaseModel, JsonValue

from jobs.archives import Archive, find_archive
from jobs.removals import Removal, open_removal
from worker import (
    Condition,
    JobContext,
    RegisteredTable,
    RunOptions,
    Settings,
    Span,
    TableFacts,
    Tables,
    check_bounded,
    check_refused,
    check_where,
    job,
    parse_where,
    where_clause,
)

COUNTERS: Final = ("deleted", "archived", "quarantined")
"""What is counted: rows that are gone, those of them that the archive has, rows that the database would not let go."""

LARGE_DELETE: Final = 100_000
"""Deleted rows from which on it is worth saying what their room is good for."""


class DeleteCounts(BaseModel):
    """How many rows are gone from the table, and how many of these are in the archive."""

    deleted: int
    archived: int


def check_delete(parameters: BaseModel, tables: Tables, _: Settings, options: RunOptions) -> None:
    """Refuse at once what is known to fail without asking the database.

    Raises:
        RequestError: an unknown table or column, an operation that is not allowed, a `where` that the table cannot
            answer or that is missing, an archive that cannot be.
    """
    given = dict(parameters)
    target = tables.allowed(given["table"], "delete")
    condition = parse_where(given["where"])
    check_where(condition, target.table)
    check_bounded(condition, options, target.table)
    find_archive(given["archive"], target.name, tables)


@job(check=check_delete)
async def chunked_delete(
    ctx: JobContext,
    table: str,
    where: dict[str, JsonValue] | None = None,
    archive: Archive = None,
) -> DeleteCounts:
    """Delete rows of a table.

    Args:
        ctx: the run.
        table: a registered table.
        where: which rows are meant. Without it every row, which the run option `all` must allow.
        archive: where each row goes: a registered table that has all columns of this one, or a CSV or NDJSON file.

    Returns:
        The counts, over all attempts.
    """
    target = ctx.tables.allowed(table, "delete")
    ctx.progress.count(**dict.fromkeys(COUNTERS, 0))
    facts = await ctx.tools.table_facts(target.table)
    around = await ctx.tools.preflight(target.table, "delete")
    kept = find_archive(archive, target.name, ctx.tables)
    async with open_removal(ctx, target, facts, around, kept) as removal:
        if not removal.over:
            await _walk(ctx, target, facts, parse_where(where), removal, deferred=around.deferred or removal.deferred)
        await removal.finish()
    await _advise(ctx, target)
    return DeleteCounts.model_validate(ctx.progress.counters)


async def _walk(
    ctx: JobContext,
    target: RegisteredTable,
    facts: TableFacts,
    condition: Condition,
    removal: Removal,
    *,
    deferred: bool,
) -> None:
    walk = await ctx.tools.choose_walk(target.table, facts, condition)
    # of a part of the table nobody knows how large it is
    ctx.progress.total = facts.estimated_rows if walk.base is None else None
    matching = where_clause(condition, target.table, facts, ctx.started_at)
    async for span in ctx.spans(walk, matching):
        _check_refused(ctx)
        if await ctx.tools.lock_span(span, keys_stay=False):
            if deferred:
                await ctx.tools.check_now()
            await _delete_span(ctx, span, removal)
    _check_refused(ctx)


async def _delete_span(ctx: JobContext, span: Span, removal: Removal) -> None:
    removed = await removal.remove(span)
    ctx.progress.count(deleted=removed.deleted, archived=removed.archived)
    if removed.refused:
        await ctx.tools.quarantine_keys(span.walk, removed.refused)


async def _advise(ctx: JobContext, target: RegisteredTable) -> None:
    deleted = ctx.progress.counters["deleted"]
    if deleted >= LARGE_DELETE:
        advice = ctx.tools.advice_after_delete(target.table)
        await ctx.tools.note(f"{deleted:,} rows are gone from table {target.name!r}. {advice}")


def _check_refused(ctx: JobContext) -> None:
    # of the spans that are committed, which the one that the walk has just entered is not
    counters = ctx.progress.counters
    check_refused(ctx.run_id, counters["deleted"] + counters["quarantined"], counters["quarantined"])
