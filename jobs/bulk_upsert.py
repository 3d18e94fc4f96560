"""`bulk_upsert`: insert or update many rows of one table from a source, exactly once.

Safe to run again at any point: each chunk's rows, counts and place in the source commit together. It locks the rows of
one chunk at a time, in key order, and writes nothing for a row that would not change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from worker import (
    Feed,
    InvalidRowError,
    Isolated,
    JobContext,
    MergeCounts,
    ParametersError,
    Portion,
    RegisteredTable,
    RowValidator,
    RunOptions,
    Settings,
    Source,
    SourceSpec,
    TableFacts,
    Tables,
    UnknownColumnError,
    Upsert,
    check_source,
    job,
    open_source,
    writable_columns,
)

COUNTERS = ("read", "inserted", "updated", "unchanged", "duplicates", "quarantined")
"""What is counted; `read` is always the sum of the others."""

SHOWN_FAULTS = 3
"""How many faulty rows an error message shows."""


class UpsertCounts(BaseModel):
    """What became of the rows of the source: `read` is the sum of the others."""

    read: int
    inserted: int
    updated: int
    unchanged: int
    duplicates: int
    quarantined: int


def check_upsert(parameters: BaseModel, tables: Tables, settings: Settings, _: RunOptions) -> None:
    """Refuse at once what is known to fail without asking the database.

    Raises:
        RequestError: an unknown table or column, an operation that is not allowed, too many inline rows.
    """
    given = dict(parameters)
    table: str = given["table"]
    source: SourceSpec = given["source"]
    target = tables.allowed(table, "upsert")
    check_source(source, tables, settings)
    inline = {name for row in source.rows or [] for name in row}
    for column in [*(given["key"] or []), *(given["update"] or []), *sorted(inline)]:
        if column not in target.table.columns:
            raise UnknownColumnError(table, column, target.table.columns.keys())


@job(check=check_upsert)
async def bulk_upsert(
    ctx: JobContext,
    table: str,
    source: SourceSpec,
    key: list[str] | None = None,
    update: list[str] | None = None,
    on_invalid: Literal["quarantine", "fail"] = "quarantine",
) -> UpsertCounts:
    """Insert or update rows of a table from a source.

    Args:
        ctx: the run.
        table: a registered table.
        source: inline rows, a CSV or NDJSON file, or a registered table, such as one that a load was staged in.
        key: the columns that tell rows apart; the primary key unless given. A unique constraint must cover them.
        update: the columns that an existing row takes from the source; all that the source carries, less the key,
            unless given.
        on_invalid: `quarantine` puts a row aside that does not fit the table, or that the database refuses; `fail`
            stops at the first chunk that has one.

    Returns:
        The counts, over all attempts.
    """
    target = ctx.tables.allowed(table, "upsert")
    ctx.works_on(target.table)
    ctx.progress.count(**dict.fromkeys(COUNTERS, 0))
    facts = await ctx.tools.table_facts(target.table)
    async with open_source(ctx, source, writable_columns(target.table, facts)) as rows:
        work = _prepare(ctx, target, facts, rows, key, update)
        async with Feed(ctx, rows, work.validator) as feed:
            async for portion in feed:
                if on_invalid == "fail":
                    await _commit_whole(ctx, work, feed, portion)
                else:
                    await _commit_sound(ctx, work, feed, portion)
    return UpsertCounts.model_validate(ctx.progress.counters)


@dataclass(frozen=True, slots=True)
class _Work:
    facts: TableFacts
    validator: RowValidator
    upsert: Upsert


def _prepare(
    ctx: JobContext,
    target: RegisteredTable,
    facts: TableFacts,
    rows: Source,
    key: list[str] | None,
    update: list[str] | None,
) -> _Work:
    unique = facts.unique_key(tuple(key) if key else None)
    validator = RowValidator(
        target.table,
        target.model,
        facts,
        source_columns=rows.columns,
        key=unique.columns,
        empty_is_text=rows.empty_is_text,
    )
    chosen = [name for name in rows.columns if name not in unique.columns] if update is None else update
    for name in chosen:
        if name not in rows.columns:
            raise ParametersError(
                f"`update` names column {name!r}, which the source does not carry; it carries: "
                f"{', '.join(rows.columns)}"
            )
    upsert = ctx.tools.upsert(target.table, facts, columns=validator.columns, key=unique.columns, update=chosen)
    return _Work(facts, validator, upsert)


async def _commit_whole(ctx: JobContext, work: _Work, feed: Feed, portion: Portion) -> None:
    """All rows of a chunk, or none and the run fails."""

    async def apply(portion: Portion) -> None:
        rows = portion.rows
        if rows.faults:
            raise InvalidRowError(_describe(portion))
        ctx.progress.count(read=portion.batch.read)
        if rows.positions:
            await ctx.session.connection()
            feed.read_ahead()
            _count(ctx, await work.upsert.apply(rows.values))

    await feed.commit(portion, apply)


async def _commit_sound(ctx: JobContext, work: _Work, feed: Feed, portion: Portion) -> None:
    """The rows of a chunk that validation and the database take; the others go to the quarantine with it."""

    async def apply(portion: Portion) -> None:
        found = await _upsert_sound(ctx, work, feed, portion.rows.values) if portion.rows.positions else Isolated()
        refused = portion.quarantine(found.refused)
        await ctx.tools.quarantine(refused)
        ctx.progress.count(read=portion.batch.read, quarantined=len(refused))
        for counts in found.results:
            _count(ctx, counts)

    await feed.commit(portion, apply)
    counters = ctx.progress.counters
    await feed.check_refused(portion, read=counters["read"], refused=counters["quarantined"])


async def _upsert_sound(
    ctx: JobContext, work: _Work, feed: Feed, values: Sequence[Sequence[object]]
) -> Isolated[int, MergeCounts]:
    """Upsert the rows that the database takes: all at once, and only after a refusal in parts."""

    async def apply(columns: Sequence[Sequence[object]]) -> MergeCounts:
        feed.read_ahead()
        counts = await work.upsert.apply(columns)
        await ctx.tools.check_deferred(work.facts)
        return counts

    whole = await ctx.tools.isolate([values], lambda chunk: apply(chunk[0]))
    if not whole.refused:
        return Isolated(whole.results)
    # parts lock rows in the key's order as the whole does; of rows with one key, none may come after a later one
    groups = await work.upsert.in_key_order(values)
    alone = {group[0] for group in groups if len(group) == 1}
    return await ctx.tools.isolate(
        [row for group in groups for row in group],
        lambda rows: apply([[column[row] for row in rows] for column in values]),
        again=alone.__contains__,
    )


def _count(ctx: JobContext, counts: MergeCounts) -> None:
    ctx.progress.count(
        inserted=counts.inserted, updated=counts.updated, unchanged=counts.unchanged, duplicates=counts.duplicates
    )


def _describe(portion: Portion) -> str:
    faults = portion.rows.faults
    shown = "; ".join(f"line {fault.position}: {fault.reason}" for fault in faults[:SHOWN_FAULTS])
    more = f" and {len(faults) - SHOWN_FAULTS} more in this chunk" if len(faults) > SHOWN_FAULTS else ""
    return f'Rows do not fit the table and on_invalid is "fail": {shown}{more}. Nothing of this chunk was kept'
