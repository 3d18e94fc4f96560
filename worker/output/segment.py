"""The segment that one claim writes.

Owns that only synced bytes are counted. Refuses to go on after a failed write or sync: what the disk then holds is not
known, and a second sync would not tell.
"""

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from worker.core.errors import OutputError
from worker.output.cursor import Piece
from worker.output.folder import Folder, named, write_all


class SegmentWriter:
    """A segment, created when its first bytes come: a claim that writes none leaves nothing behind.

    Attributes:
        synced: what is on the disk, and so may be committed; None while that is nothing.
    """

    def __init__(self, folder: Folder, name: str, fence: int) -> None:
        self.synced: Piece | None = None
        self._folder = folder
        self._name = name
        self._fence = fence
        self._descriptor: int | None = None
        self._length = 0
        self._crc32 = 0
        self._failed = False

    @property
    def length(self) -> int:
        """How many bytes were written, those that are not synced included."""
        return self._length

    @property
    def pending(self) -> bool:
        """Whether some of them are not synced."""
        return self._length != (self.synced.bytes if self.synced else 0)

    def append(self, data: bytes) -> None:
        """Write bytes after the others.

        Raises:
            OutputError: an earlier write failed, or the file may not be created.
        """
        with self._trying():
            if self._descriptor is None:
                self._descriptor = self._folder.create(self._name)
            write_all(self._descriptor, data)
        self._length += len(data)
        self._crc32 = zlib.crc32(data, self._crc32)

    def flush(self) -> None:
        """Wait until all that was written is on the disk.

        Raises:
            OutputError: an earlier write failed.
        """
        with self._trying():
            if self._descriptor is None or not self.pending:
                return
            os.fsync(self._descriptor)
            if self.synced is None:
                self._folder.sync()
        self.synced = Piece(fence=self._fence, bytes=self._length, crc32=self._crc32)

    def close(self) -> None:
        """Give back the descriptor."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @contextmanager
    def _trying(self) -> Iterator[None]:
        path = self._folder.path_of(self._name)
        if self._failed:
            raise OutputError(f"A write to {path!r} failed before, so what it holds is not known; claim the run anew")
        self._failed = True
        with named(path):
            yield
        self._failed = False
