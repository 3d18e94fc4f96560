"""Segments joined into one file, a piece at a time.

Owns that the file holds what was committed and nothing else: the recorded length of each segment, checked against its
checksum on the way. Memory stays flat, and whoever joins can stop between two steps.
"""

import os
import zlib
from collections.abc import Generator, Sequence
from typing import Final

from worker.core.errors import OutputError
from worker.output.cursor import Piece
from worker.output.folder import named, write_all
from worker.output.place import Place, lost

_BLOCK_BYTES: Final = 1024 * 1024


def adopt(place: Place, segments: Sequence[Piece], fence: int) -> Piece | None:
    """Give the only segment the joined file's name besides its own, where that is as good as a copy.

    It is where this very claim wrote it: a claim before may belong to a worker that wakes up and appends to it.

    Returns:
        The joined file; None where there is more to do.
    """
    if [segment.fence for segment in segments] != [fence]:
        return None
    name = place.names.of("part", fence)
    facts = place.folder.stat(name)
    if facts is None or facts.st_size != segments[0].bytes:
        return None
    if not place.folder.link(name, place.names.of("whole", fence)):
        return None
    place.folder.sync()
    return segments[0]


class Join:
    """The segments of a file on their way into one.

    Args:
        place: where.
        segments: in order.
        fence: of the claim that joins, after which the joined file is named.
        alone: what the file holds where there is no segment.
    """

    def __init__(self, place: Place, segments: Sequence[Piece], fence: int, *, alone: bytes) -> None:
        self._place = place
        self._fence = fence
        self._name = place.names.of("whole", fence)
        self._blocks = self._read(segments, alone)
        self._goal = sum(segment.bytes for segment in segments) or len(alone)
        self._length = 0
        self._crc32 = 0
        self._path = place.folder.path_of(self._name)
        self._descriptor = place.folder.create(self._name)
        self._open = True

    def step(self, budget: int) -> Piece | None:
        """Copy at least `budget` bytes, or the rest.

        Returns:
            The joined file, once it is whole and on the disk.

        Raises:
            OutputError: a segment is missing, too short or not what was committed.
        """
        end = self._length + budget
        for block in self._blocks:
            self._write(block)
            if self._length >= end:
                return None
        return self._finish()

    def close(self) -> None:
        """Give back what it holds open."""
        self._blocks.close()
        if self._open:
            self._open = False
            os.close(self._descriptor)

    def _read(self, segments: Sequence[Piece], alone: bytes) -> Generator[bytes, None, None]:
        if alone and not segments:
            yield alone
        for segment in segments:
            yield from self._read_segment(segment)

    def _read_segment(self, segment: Piece) -> Generator[bytes, None, None]:
        name = self._place.names.of("part", segment.fence)
        try:
            descriptor = self._place.folder.read(name)
        except FileNotFoundError as error:
            raise lost(self._place, name, segment, "it is not there") from error
        try:
            left, crc32 = segment.bytes, 0
            while left:
                with named(self._place.folder.path_of(name)):
                    block = os.read(descriptor, min(_BLOCK_BYTES, left))
                if not block:
                    raise lost(self._place, name, segment, f"it ends after {segment.bytes - left:,} bytes")
                left -= len(block)
                crc32 = zlib.crc32(block, crc32)
                yield block
            if crc32 != segment.crc32:
                raise lost(self._place, name, segment, "other bytes stand in their place, as the checksum tells")
        finally:
            os.close(descriptor)

    def _write(self, block: bytes) -> None:
        with named(self._path):
            write_all(self._descriptor, block)
        self._length += len(block)
        self._crc32 = zlib.crc32(block, self._crc32)

    def _finish(self) -> Piece:
        with named(self._path):
            os.fsync(self._descriptor)
            size = os.fstat(self._descriptor).st_size
        # A step after one that failed comes here with less than all, or with more on the disk than was counted.
        if not size == self._length == self._goal:
            raise OutputError(f"{self._path!r} has {size:,} bytes and not {self._goal:,}; claim the run anew")
        self._place.folder.sync()
        self.close()
        return Piece(fence=self._fence, bytes=self._length, crc32=self._crc32)
