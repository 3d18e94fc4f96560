"""A file made exactly once, however often the run that makes it is killed: one segment a claim, joined in the end.

Owns the order of the phases. Whoever makes a file calls, each time in a thread, for every call may wait for the disk:

1. `open_output(...)` with the cursor of the run's last committed chunk. It refuses what is known to fail.
2. In the phase `write`, for each chunk: `append(rows)`, then `flush()`, then commit the chunk together with `cursor()`.
   Where the chunk's transaction rolls back, the run is claimed anew and the output opened anew: what was appended
   without being committed is ignored.
3. After the last row: `join()` until it returns True (between two calls the run may stop), then commit `cursor()`.
4. In the phase `publish`: `publish()`, then commit `cursor()`.
5. In the phase `published`: `clear()`, then end the run with `rows` and `size` as its result.

A run that resumes goes on in the phase that `phase` tells. `close()` at the end of each attempt.
"""

import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from worker.output.cursor import OutputCursor, Phase
from worker.output.join import Join, adopt
from worker.output.place import Place
from worker.output.publish import clear_away, clear_joins, publish
from worker.output.rows import RowWriter
from worker.output.segment import SegmentWriter

_JOINED_AT_ONCE: Final = 64 * 1024 * 1024
_GZIP_BITS: Final = 16 + zlib.MAX_WBITS
_GZIP_LEVEL: Final = 6


class SegmentedOutput:
    """One file on its way, as one claim of its run makes it. Its methods block: call them in a thread.

    Args:
        place: where; closed with the output.
        writer: of its rows.
        cursor: how far it has come.
        fence: of the claim.
        packed: whether each chunk is packed into a gzip member of its own.
        overwrite: whether an existing file is replaced.
    """

    def __init__(
        self, place: Place, writer: RowWriter, cursor: OutputCursor, fence: int, *, packed: bool, overwrite: bool
    ) -> None:
        self._place = place
        self._writer = writer
        self._cursor = cursor
        self._fence = fence
        self._packed = packed
        self._overwrite = overwrite
        self._segment = SegmentWriter(place.folder, place.names.of("part", fence), fence)
        self._join: Join | None = None
        self._rows = cursor.rows
        # A cancelled task leaves its thread at work: closing must wait for it, for the number of a closed descriptor
        # is soon another file's.
        self._lock = threading.Lock()
        self._open = True

    @property
    def phase(self) -> Phase:
        """What is to be done next."""
        return self._cursor.phase

    @property
    def columns(self) -> tuple[str, ...]:
        """What the file carries: what it was begun with, whatever the table has become since."""
        return tuple(self._cursor.columns)

    @property
    def rows(self) -> int:
        """How many rows were appended, by this claim and those before it."""
        return self._rows

    @property
    def size(self) -> int:
        """How many bytes the file has, as far as it is written."""
        if self._cursor.whole is not None:
            return self._cursor.whole.bytes
        return sum(segment.bytes for segment in self._cursor.segments) + self._segment.length

    def append(self, rows: Sequence[Sequence[object]]) -> None:
        """Write the rows of a chunk after the others.

        Args:
            rows: each aligned with `columns`, as the database's driver or SQLAlchemy returns values.

        Raises:
            OutputError: a value has no exact form in a file, or the file may not be written.
        """
        with self._doing("append", "write"):
            if not rows:
                return
            data = self._writer.render(rows)
            if not self._cursor.segments and not self._segment.length:
                data = self._writer.head + data
            self._segment.append(self._pack(data))
            self._rows += len(rows)

    def flush(self) -> None:
        """Wait until all that was appended is on the disk."""
        with self._doing("flush", "write"):
            self._segment.flush()

    def join(self, budget: int = _JOINED_AT_ONCE) -> bool:
        """Join some of the segments into the whole file.

        Args:
            budget: about how many bytes to copy before returning.

        Returns:
            Whether the whole file is on the disk: then the phase is `publish`, once that is committed.

        Raises:
            OutputError: a segment is not what was committed.
        """
        with self._doing("join", "write"):
            segments = self._committed().segments
            whole = None
            if self._join is None:
                self._segment.close()
                clear_joins(self._place, self._fence)
                whole = adopt(self._place, segments, self._fence)
            if whole is None:
                self._join = self._join or Join(self._place, segments, self._fence, alone=self._pack(self._writer.head))
                whole = self._join.step(budget)
            if whole is not None:
                self._cursor = self._committed().model_copy(update={"whole": whole, "phase": "publish"})
            return whole is not None

    def publish(self) -> None:
        """Put the whole file in its place. It may be called again after a death at any point.

        Raises:
            OutputError: another file is there by now.
        """
        with self._doing("publish", "publish"):
            if self._cursor.whole is not None:
                publish(self._place, self._cursor.whole, self._rows, overwrite=self._overwrite)
            self._cursor = self._cursor.model_copy(update={"phase": "published"})

    def clear(self) -> None:
        """Remove the segments and whatever else the run's claims left, but not the file."""
        with self._doing("clear", "published"):
            clear_away(self._place)

    def cursor(self) -> dict[str, object]:
        """What the next claim goes on from, JSON-safe; to be committed before anything else is done.

        Raises:
            RuntimeError: rows were appended and not flushed.
        """
        return self._committed().model_dump()

    def close(self) -> None:
        """Give back what it holds open, after waiting for a call that is under way in another thread."""
        with self._lock:
            if self._open:
                self._open = False
                self._segment.close()
                if self._join is not None:
                    self._join.close()
                self._place.folder.close()

    def _committed(self) -> OutputCursor:
        if self._segment.pending:
            raise RuntimeError("rows were appended and not flushed: call flush() before a chunk is committed")
        if self._segment.synced is None or self._cursor.phase != "write":
            return self._cursor
        segments = [*self._cursor.segments, self._segment.synced]
        return self._cursor.model_copy(update={"segments": segments, "rows": self._rows})

    def _pack(self, data: bytes) -> bytes:
        if not self._packed:
            return data
        # A member's header made so holds no time and no name: the same rows make the same bytes.
        packer = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_BITS)
        return packer.compress(data) + packer.flush()

    @contextmanager
    def _doing(self, what: str, phase: Phase) -> Iterator[None]:
        with self._lock:
            if not self._open:
                raise RuntimeError(f"{what}() on an output that is closed; open it anew")
            if self._cursor.phase != phase:
                raise RuntimeError(f"{what}() belongs to the phase {phase!r}, and this output's is {self.phase!r}")
            yield
