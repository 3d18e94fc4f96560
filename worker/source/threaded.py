"""Sources that block, as files do, behind the protocol that jobs await: each call in a thread of its own.

Owns that, and that nothing is closed while a thread still reads it.
"""

import asyncio

from worker.source.batch import Batch, RowSource
from worker.source.open import open_rows
from worker.source.spec import SourceLimits, SourceSpec


class ThreadedSource:
    """A blocking source, awaited. A `Source`."""

    def __init__(self, rows: RowSource) -> None:
        self._rows = rows
        self._reading: asyncio.Future[Batch] | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the source carries."""
        return self._rows.columns

    @property
    def empty_is_text(self) -> bool:
        """Whether every value is text and an absent one an empty cell."""
        return self._rows.empty_is_text

    async def read(self, size: int) -> Batch:
        """The next at most `size` rows."""
        self._reading = asyncio.get_running_loop().run_in_executor(None, self._rows.read, size)
        # a thread cannot be cancelled: it goes on, and `close` waits for it
        return await asyncio.shield(self._reading)

    async def settle(self, batch: Batch) -> Batch:
        """The batch: what was read is in the cursor, and nowhere else."""
        return batch

    async def close(self) -> None:
        """Give back what the source holds open, once nobody reads it any more."""
        if self._reading is not None:
            # a batch takes some 100 ms at most
            await asyncio.wait([self._reading])
            self._reading.exception()
        await asyncio.to_thread(self._rows.close)


async def open_threaded(
    spec: SourceSpec, limits: SourceLimits, cursor: dict[str, object] | None = None
) -> ThreadedSource:
    """Open inline rows or a file; see `open_rows`."""
    return ThreadedSource(await asyncio.to_thread(open_rows, spec, limits, cursor))
