"""The ways to delete rows: for good, into another table, into a file.

Owns that a row which is gone from its table is in the archive whole. Refuses an archive that could lose a part of one.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import ColumnElement, Table, delete

from worker import (
    JobContext,
    OutputSpec,
    PreflightError,
    Refused,
    RegisteredTable,
    RequestError,
    RunFile,
    Span,
    Surroundings,
    TableFacts,
    archive_columns,
)


@dataclass(frozen=True, slots=True)
class Removed:
    """What became of the rows of a span that were meant."""

    deleted: int
    archived: int
    refused: Sequence[Refused[tuple[object, ...]]]


class Removal(Protocol):
    """A way to delete rows."""

    @property
    def deferred(self) -> bool:
        """Whether a constraint of the archive waits for the end of the transaction."""
        ...

    @property
    def over(self) -> bool:
        """Whether all rows are dealt with, and only `finish` is left."""
        ...

    async def remove(self, span: Span) -> Removed:
        """Delete the locked rows of a span in its chunk."""
        ...

    async def finish(self) -> None:
        """What is to be done after the last span."""
        ...


class Discard:
    """Rows are deleted, and that is all."""

    deferred = False
    over = False

    def __init__(self, ctx: JobContext, table: Table) -> None:
        self._ctx = ctx
        self._table = table

    async def remove(self, span: Span) -> Removed:
        """Delete the rows of a span."""
        found = await self._ctx.tools.apply_span(span, self._delete)
        return Removed(sum(found.results), 0, found.refused)

    async def finish(self) -> None:
        """Nothing."""

    async def _delete(self, condition: ColumnElement[bool]) -> int:
        return (await self._ctx.tools.execute(delete(self._table).where(condition))).rowcount


class MoveToTable:
    """Rows are deleted and inserted into another table, by one statement."""

    over = False

    def __init__(
        self, ctx: JobContext, table: Table, archive: Table, columns: Sequence[str], *, deferred: bool
    ) -> None:
        self.deferred = deferred
        self._ctx = ctx
        self._table = table
        self._archive = archive
        self._columns = columns

    async def remove(self, span: Span) -> Removed:
        """Move the rows of a span.

        Raises:
            RequestError: the archive took fewer rows than were deleted, which is undone.
        """
        found = await self._ctx.tools.apply_span(span, self._move)
        moved = sum(found.results)
        return Removed(moved, moved, found.refused)

    async def finish(self) -> None:
        """Nothing."""

    async def _move(self, condition: ColumnElement[bool]) -> int:
        moved = await self._ctx.tools.move_rows(self._table, self._archive, self._columns, condition)
        deleted, archived = moved
        if deleted != archived:
            raise RequestError(
                f"Of {deleted:,} rows of table {self._table.fullname!r}, the archive {self._archive.fullname!r} took "
                f"{archived:,} without an error: a trigger or a rule of its own drops or diverts rows. Nothing of this "
                "chunk was deleted. Give an archive that keeps what is inserted"
            )
        return deleted


class MoveToFile:
    """Rows are deleted and written into a file, which is on the disk before the chunk commits."""

    deferred = False

    def __init__(self, ctx: JobContext, table: Table, file: RunFile) -> None:
        self._ctx = ctx
        self._table = table
        self._file = file

    @property
    def over(self) -> bool:
        """Whether the file has all rows."""
        return self._file.has_all_rows

    async def remove(self, span: Span) -> Removed:
        """Move the rows of a span.

        Raises:
            OutputError: a value has no exact form in a file.
        """

        async def take(condition: ColumnElement[bool]) -> Sequence[Sequence[object]]:
            return await self._ctx.tools.take_rows(self._table, self._file.selected, condition, span.walk.key)

        found = await self._ctx.tools.apply_span(span, take)
        rows = [row for taken in found.results for row in taken]
        await self._file.write(span, rows)
        return Removed(len(rows), len(rows), found.refused)

    async def finish(self) -> None:
        """Put the file in its place."""
        await self._file.finish()


@asynccontextmanager
async def open_removal(
    ctx: JobContext,
    target: RegisteredTable,
    facts: TableFacts,
    around: Surroundings,
    archive: RegisteredTable | OutputSpec | None,
) -> AsyncIterator[Removal]:
    """The way to delete rows that an archive means.

    Raises:
        RequestError: the archive could lose a row, or a part of one.
    """
    if archive is None:
        yield Discard(ctx, target.table)
        return
    if any(reference.on_delete == "cascade" and reference.table == around.table for reference in around.references):
        raise PreflightError(
            f"A foreign key cascades from table {around.table!r} back to itself: rows would be deleted along with "
            "others without being archived. Make it ON DELETE NO ACTION, or delete without an archive"
        )
    if isinstance(archive, RegisteredTable):
        yield await _to_table(ctx, target, facts, around, archive)
        return
    names = _names(target.table)
    unknown = [name for name in facts.columns if name not in names]
    if unknown:
        raise RequestError(
            f"The model of table {target.name!r} lacks columns that its table has, so their values would be lost: "
            f"{', '.join(unknown)}. Add them to the model"
        )
    async with RunFile(ctx, archive, target.table, [name for name in names if name in facts.columns]) as file:
        yield MoveToFile(ctx, target.table, file)


async def _to_table(
    ctx: JobContext, target: RegisteredTable, facts: TableFacts, around: Surroundings, archive: RegisteredTable
) -> MoveToTable:
    beside = await ctx.tools.preflight(archive.table, "insert")
    if around.table in beside.heirs or beside.table in around.heirs:
        raise PreflightError(
            f"One of the tables {around.table!r} and {beside.table!r} inherits from the other or is a partition of it, "
            "so a row in the one is a row of the other. Name an archive that stands apart"
        )
    kept = await ctx.tools.table_facts(archive.table)
    columns = archive_columns(facts, kept, known=_names(target.table), known_there=_names(archive.table))
    return MoveToTable(ctx, target.table, archive.table, columns, deferred=beside.deferred)


def _names(table: Table) -> list[str]:
    return [str(column.name) for column in table.columns]
