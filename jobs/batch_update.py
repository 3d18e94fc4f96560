"""`batch_update`: change rows that are there, all that are meant in one way, or each in its own; none is inserted.

Safe to run again at any point: each chunk's rows, counts and place in the walk or source commit together. It locks the
rows of one chunk at a time, in key order, and writes nothing for a row that would not change.
"""

from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, JsonValue
from sqlalchemy import ColumnElement

from jobs.batch_update_request import check_update
from jobs.rows_from_source import OnInvalid, RowWork, write_rows
from worker import (
    Batch,
    Isolated,
    JobContext,
    ParametersError,
    RefusedRow,
    RegisteredTable,
    RowValidator,
    Source,
    SourceSpec,
    Span,
    TableFacts,
    UpdateCounts,
    check_refused,
    job,
    open_source,
    parse_where,
    primary_walk,
    row_payload,
    where_clause,
    writable_columns,
)

COUNTERS: Final = ("read", "updated", "unchanged", "missing", "duplicates", "quarantined")
"""What is counted; `read` is always the sum of the others."""


class RowCounts(BaseModel):
    """What became of the rows: `read` is the sum of the others."""

    read: int
    updated: int
    unchanged: int
    missing: int
    duplicates: int
    quarantined: int


@job(check=check_update)
async def batch_update(
    ctx: JobContext,
    table: str,
    where: dict[str, JsonValue] | None = None,
    set: dict[str, JsonValue] | None = None,  # noqa: A002 - what it is called wherever SQL is known
    source: SourceSpec | None = None,
    key: list[str] | None = None,
    on_invalid: OnInvalid = "quarantine",
) -> RowCounts:
    """Update rows of a table: those of a `where` in one way, or each row of a source in its own.

    Args:
        ctx: the run.
        table: a registered table.
        where: which rows are meant, with `set`. Without it every row, which the run option `all` must allow.
        set: the values that all of them get, by column name.
        source: instead of both: rows that each carry their key and what is to change. A value that a row lacks is NULL
            where the column is nullable, as in `bulk_upsert`; in any other column the row is refused.
        key: the columns that tell the source's rows apart; the primary key unless given. A unique constraint must
            cover them.
        on_invalid: `quarantine` puts a row aside that does not fit the table, or that the database refuses; `fail`
            stops at the first chunk that has one.

    Returns:
        The counts, over all attempts.
    """
    target = ctx.tables.allowed(table, "update")
    ctx.works_on(target.table)
    ctx.progress.count(**dict.fromkeys(COUNTERS, 0))
    facts = await ctx.tools.table_facts(target.table)
    if source is not None:
        async with open_source(ctx, source, writable_columns(target.table, facts)) as rows:
            await write_rows(ctx, rows, _by_rows(ctx, target, facts, rows, key), on_invalid)
    else:
        matching = where_clause(parse_where(where), target.table, facts, ctx.started_at)
        await _update_where(ctx, target, facts, matching, set or {}, on_invalid)
    return RowCounts.model_validate(ctx.progress.counters)


def _by_rows(
    ctx: JobContext, target: RegisteredTable, facts: TableFacts, rows: Source, key: list[str] | None
) -> RowWork[UpdateCounts]:
    unique = facts.unique_key(tuple(key) if key else None)
    validator = RowValidator(
        target.table,
        target.model,
        facts,
        source_columns=rows.columns,
        key=unique.columns,
        empty_is_text=rows.empty_is_text,
        inserts=False,
    )
    update = ctx.tools.row_update(target.table, facts, columns=validator.columns, key=unique.columns)
    return RowWork(facts, validator, update)


async def _update_where(
    ctx: JobContext,
    target: RegisteredTable,
    facts: TableFacts,
    matching: ColumnElement[bool],
    given: Mapping[str, object],
    on_invalid: OnInvalid,
) -> None:
    update = ctx.tools.where_update(target.table, facts, _values(target, facts, given))

    async def apply(these: ColumnElement[bool]) -> UpdateCounts:
        counts = await update.apply(these)
        await ctx.tools.check_deferred(facts)
        return counts

    ctx.progress.total = facts.estimated_rows
    async for span in ctx.spans(primary_walk(target.table, facts), matching):
        _check_refused(ctx)
        whole = on_invalid == "fail"
        found = Isolated([await apply(span.condition)]) if whole else await ctx.tools.apply_span(span, apply)
        _count(ctx, found)
        await ctx.tools.quarantine(_refused_rows(span, found, given))
    _check_refused(ctx)


def _count(ctx: JobContext, found: Isolated[tuple[object, ...], UpdateCounts]) -> None:
    refused = len(found.refused)
    ctx.progress.count(
        read=sum(counts.rows for counts in found.results) + refused,
        updated=sum(counts.updated for counts in found.results),
        unchanged=sum(counts.unchanged for counts in found.results),
        quarantined=refused,
    )


def _refused_rows(
    span: Span, found: Isolated[tuple[object, ...], UpdateCounts], given: Mapping[str, object]
) -> list[RefusedRow]:
    """Such a row has no place in a source; as its key and its new values it could have been a row of one."""
    columns = (*(column.name for column in span.walk.key), *given)
    return [
        RefusedRow.by_database(0, row_payload(columns, (*one.item, *given.values()), empty_is_text=False), one.error)
        for one in found.refused
    ]


def _values(target: RegisteredTable, facts: TableFacts, given: Mapping[str, object]) -> dict[str, object]:
    """The values of `set`, each as its column wants it."""
    written = [name for name in given if facts.column(name).generated]
    if written:
        raise ParametersError(
            f"`set` names column {written[0]!r} of table {target.name!r}, which the database alone writes. Leave it out"
        )
    validator = RowValidator(
        target.table,
        target.model,
        facts,
        source_columns=tuple(given),
        key=(),
        empty_is_text=False,
        inserts=False,
    )
    judged = validator.validate(Batch([tuple(given.values())], [1], [], {}, last=True, fraction=None))
    if judged.faults:
        raise ParametersError(f"`set` does not fit table {target.name!r}: {judged.faults[0].reason}")
    return {name: column[0] for name, column in zip(validator.columns, judged.values, strict=True)}


def _check_refused(ctx: JobContext) -> None:
    # of the spans that are committed, which the one that the walk has just entered is not
    counters = ctx.progress.counters
    check_refused(ctx.run_id, counters["read"], counters["quarantined"])
