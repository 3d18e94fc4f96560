"""`export_rows`: write the rows of a table into a file, exactly once.

Safe to run again at any point: each chunk's rows are on the disk before its cursor commits, and what was written
without being committed is ignored. It locks nothing. Each chunk sees the table as it is when it is read, not as it was
when the run started, and rows that are added behind the walk's end are not chased.
"""

from typing import Literal

from pydantic import BaseModel
from sqlalchemy import select

from worker import (
    JobContext,
    OutputSpec,
    RunFile,
    RunOptions,
    Settings,
    Tables,
    check_output,
    check_where,
    job,
    parse_where,
    primary_walk,
    where_clause,
)


class ExportCounts(BaseModel):
    """How large the file is: its rows, a header not counted, and its bytes, packed where it is."""

    rows: int
    bytes: int


def check_export(parameters: BaseModel, tables: Tables, _: Settings, __: RunOptions) -> None:
    """Refuse at once what is known to fail without asking the database or the disk.

    Raises:
        RequestError: an unknown table or column, an operation that is not allowed, a file that cannot be asked for.
    """
    given = dict(parameters)
    target = tables.allowed(given["table"], "read")
    check_where(parse_where(given["where"]), target.table)
    check_output(OutputSpec(uri=given["uri"], format=given["format"], overwrite=given["overwrite"]))


@job(check=check_export)
async def export_rows(
    ctx: JobContext,
    table: str,
    where: dict[str, object] | None = None,
    *,
    uri: str,
    format: Literal["csv", "ndjson"] | None = None,  # noqa: A002 - the parameter's name is the contract
    overwrite: bool = False,
) -> ExportCounts:
    """Write rows of a table into a CSV or NDJSON file, in the order of the primary key.

    Args:
        ctx: the run.
        table: a registered table.
        where: which rows; all unless given.
        uri: the file, under WORKER_OUTPUT_DIRS; packed where its name ends in `.gz`.
        format: what it holds; inferred from its name unless given.
        overwrite: whether to replace an existing file, once the new one is whole.

    Returns:
        The file's rows and bytes.
    """
    target = ctx.tables.allowed(table, "read")
    facts = await ctx.tools.table_facts(target.table)
    columns = [column.name for column in target.table.columns if column.name in facts.columns]
    matching = where_clause(parse_where(where), target.table, facts, ctx.started_at)
    walk = primary_walk(target.table, facts)
    ctx.progress.count(rows=0, bytes=0)
    spec = OutputSpec(uri=uri, format=format, overwrite=overwrite)
    async with RunFile(ctx, spec, target.table, columns) as file:
        if not file.has_all_rows:
            selected = select(*file.selected).order_by(*walk.key)
            async for span in ctx.spans(walk, matching):
                rows = (await ctx.tools.execute(selected.where(span.condition))).all()
                await file.write(span, rows)
                ctx.progress.count(rows=len(rows))
                ctx.progress.counters["bytes"] = file.size
        await file.finish()
        ctx.progress.counters["bytes"] = file.size
    return ExportCounts.model_validate(ctx.progress.counters)
