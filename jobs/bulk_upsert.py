"""`bulk_upsert`: insert or update many rows of one table from a source, exactly once.

Safe to run again at any point: each chunk's rows, counts and place in the source commit together. It locks the rows of
one chunk at a time, in key order, and writes nothing for a row that would not change.
"""

from pydantic import BaseModel

from jobs.rows_from_source import OnInvalid, RowWork, write_rows
from worker import (
    JobContext,
    MergeCounts,
    ParametersError,
    RegisteredTable,
    RowValidator,
    RunOptions,
    Settings,
    Source,
    SourceSpec,
    TableFacts,
    Tables,
    UnknownColumnError,
    check_source,
    job,
    open_source,
    writable_columns,
)

COUNTERS = ("read", "inserted", "updated", "unchanged", "duplicates", "quarantined")
"""What is counted; `read` is always the sum of the others."""


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
    on_invalid: OnInvalid = "quarantine",
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
        await write_rows(ctx, rows, _work(ctx, target, facts, rows, key, update), on_invalid)
    return UpsertCounts.model_validate(ctx.progress.counters)


def _work(
    ctx: JobContext,
    target: RegisteredTable,
    facts: TableFacts,
    rows: Source,
    key: list[str] | None,
    update: list[str] | None,
) -> RowWork[MergeCounts]:
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
    return RowWork(facts, validator, upsert)
