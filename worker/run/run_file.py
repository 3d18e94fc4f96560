"""The file that a run makes while it walks a table: written with each span, put in its place after the last.

Owns which of the run's cursors the file's own travels in, and the chunks in which the file is finished. Refuses to
choose rows and to count: the job does.
"""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from sqlalchemy import Column, ColumnElement, Table

from worker.core.errors import UnknownColumnError
from worker.declare.context import JobContext
from worker.declare.walk import Span
from worker.output.columns import documents, written
from worker.output.open import open_output
from worker.output.segmented import SegmentedOutput
from worker.output.spec import OutputSpec

_KEPT = "file"


class RunFile:
    """A file of rows of one table; use it as an async context manager.

    ```python
    async with RunFile(ctx, spec, table, columns) as file:
        if not file.has_all_rows:
            selected = select(*file.selected).order_by(*walk.key)
            async for span in ctx.spans(walk, matching):
                rows = await ctx.tools.execute(selected.where(span.condition))
                await file.write(span, rows.all())
        await file.finish()
    ```

    Args:
        ctx: the run's.
        spec: where, in which format, and whether over an existing file.
        table: whose rows.
        columns: what a new file carries; one that was begun keeps its own.
    """

    def __init__(self, ctx: JobContext, spec: OutputSpec, table: Table, columns: Sequence[str]) -> None:
        self._ctx = ctx
        self._spec = spec
        self._table = table
        self._columns = columns
        self._opened: SegmentedOutput | None = None

    async def __aenter__(self) -> Self:
        """Open the file where the run's cursor says.

        Raises:
            OutputError: it cannot be made, or what was made of it is lost.
        """
        self._opened = await asyncio.to_thread(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # where this task is cancelled, a thread may still be writing: the output waits for it
        await asyncio.to_thread(self._output.close)

    @property
    def has_all_rows(self) -> bool:
        """Whether the walk is over, and only the file's finish is left."""
        return isinstance(self._ctx.progress.cursor, dict) and _KEPT in self._ctx.progress.cursor

    @property
    def selected(self) -> list[ColumnElement[object]]:
        """What to select for a row of the file.

        Raises:
            UnknownColumnError: the table has lost a column that the file was begun with.
        """
        known: dict[str, Column[object]] = {column.name: column for column in self._table.columns}
        for name in self._output.columns:
            if name not in known:
                raise UnknownColumnError(self._table.fullname, name, known)
        return [written(known[name]) for name in self._output.columns]

    @property
    def size(self) -> int:
        """How many bytes it has so far."""
        return self._output.size

    async def write(self, span: Span, rows: Sequence[Sequence[object]]) -> None:
        """Write the rows of a span, to the disk, before its chunk commits; they count only if it does.

        Not in a savepoint that may be rolled back: a row that is written counts with the chunk.

        Args:
            span: the walk's current one.
            rows: values of `selected`.

        Raises:
            OutputError: a value has no exact form in a file.
        """
        await asyncio.to_thread(self._write, rows)
        span.keep[_KEPT] = self._output.cursor()

    async def finish(self) -> None:
        """Join what all claims wrote, put the file in its place, and leave nothing else; each step in a chunk.

        Raises:
            OutputError: another file is there by now, or a part of this one is lost.
            Stop: the run is to stop here, at its cursor.
        """
        output = self._output
        if not self.has_all_rows:
            # this ends the transaction of the walk too, which must not stand idle while files are joined
            await self._commit()
        if output.phase == "write":
            while not await asyncio.to_thread(output.join):
                await self._commit()
            await self._commit()
        if output.phase == "publish":
            await asyncio.to_thread(output.publish)
            await self._commit()
        await asyncio.to_thread(output.clear)

    @property
    def _output(self) -> SegmentedOutput:
        if self._opened is None:
            raise RuntimeError("a RunFile is used as an async context manager: async with RunFile(...) as file")
        return self._opened

    def _open(self) -> SegmentedOutput:
        ctx = self._ctx
        kept = (ctx.progress.cursor or {}) if self.has_all_rows else ctx.kept
        return open_output(
            self._spec,
            ctx.settings.output_dirs,
            run_id=ctx.run_id,
            started_at=ctx.started_at,
            fence=ctx.fence,
            columns=self._columns,
            documents=documents(self._table.columns),
            cursor=kept.get(_KEPT),
        )

    def _write(self, rows: Sequence[Sequence[object]]) -> None:
        self._output.append(rows)
        self._output.flush()

    async def _commit(self) -> None:
        await self._ctx.commit_chunk(_nothing, cursor={_KEPT: self._output.cursor()}, rows=0)


async def _nothing() -> None:
    """What a chunk does that only moves the cursor on."""
