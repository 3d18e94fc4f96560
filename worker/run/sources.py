"""Opening the source of a run, whatever kind it is, at the place where the run stands.

Owns the choice among inline rows, files, tables and rows that were refused, and what a source may reach. Refuses to
read: each kind has a module of its own.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from sqlalchemy.types import TypeEngine

from worker.core.cursor import Cursor
from worker.core.settings import Settings
from worker.declare.context import JobContext
from worker.declare.tables import Tables
from worker.declare.walk import primary_walk
from worker.source.batch import Source
from worker.source.limits import source_limits
from worker.source.quarantine_source import open_quarantine
from worker.source.spec import SourceSpec, check_inline
from worker.source.table_source import TableSource, open_table
from worker.source.threaded import open_threaded

Wanted = Mapping[str, TypeEngine[object] | None]
"""The columns that a source's rows are for, by name, with their types where they are known."""


def check_source(spec: SourceSpec, tables: Tables, settings: Settings) -> None:
    """Refuse at once a source that is known not to be one, without opening it.

    Raises:
        RequestError: too many inline rows, an unknown table, or one that may not be read.
    """
    check_inline(spec, source_limits(settings))
    if spec.table is not None:
        tables.allowed(spec.table, "read")


@asynccontextmanager
async def open_source(ctx: JobContext, spec: SourceSpec, wanted: Wanted) -> AsyncIterator[Source]:
    """A run's source of rows, opened at the run's cursor and closed in the end.

    Args:
        ctx: the run; each of its chunks is committed with the cursor of a batch of this source.
        spec: what to read.
        wanted: the columns that the rows are for. Of a table those that it has are read, the others are noted in the
            run's record; a file and inline rows carry what they carry.

    Yields:
        The source, for a `Feed`.

    Raises:
        RequestError: the source cannot be read, or changed since the run started.
    """
    source = await _open(ctx, spec, wanted)
    try:
        yield source
    finally:
        await source.close()


async def _open(ctx: JobContext, spec: SourceSpec, wanted: Wanted) -> Source:
    cursor = _place_of(ctx)
    if spec.table is not None:
        return await _open_table(ctx, spec.table, wanted, cursor)
    if spec.quarantine is not None:
        tools = ctx.tools
        return await open_quarantine(tools.fetch, tools.execute, ctx.job, spec.quarantine, cursor)
    return await open_threaded(spec, source_limits(ctx.settings), cursor)


def _place_of(ctx: JobContext) -> Cursor | None:
    """The run's cursor as the source made it, without what a feed has kept beside it."""
    cursor = ctx.progress.cursor
    return None if cursor is None else {name: value for name, value in cursor.items() if name != "keep"}


async def _open_table(ctx: JobContext, name: str, wanted: Wanted, cursor: Cursor | None) -> TableSource:
    table = ctx.tables.allowed(name, "read").table
    facts = await ctx.tools.table_facts(table)
    source = await open_table(ctx.tools.fetch, primary_walk(table, facts), facts, wanted, cursor)
    ignored = [column for column in table.columns.keys() if column not in source.columns]  # noqa: SIM118 - no mapping
    if ignored:
        await ctx.tools.note(
            f"Columns of table {name!r} that have no place in the target are ignored: {', '.join(ignored)}"
        )
    return source
