"""The unpacked bytes of a file, from an offset on, in blocks.

Owns unpacking and its bound. Of a file that was cut off, every byte before the cut is handed out, and then it raises;
of a damaged one, all but the block in which the damage showed: what that unpacks to may be anything. A plain file is
entered by seeking; a packed one is unpacked again from its start, for a compressed stream has no way in.
"""

import zlib
from typing import Final, Protocol

from worker.core.errors import SourceError
from worker.source.compression import Packing
from worker.source.files import SourceFile

BLOCK_BYTES: Final = 256 * 1024
_INPUT_BYTES: Final = 64 * 1024
_GZIP_BITS: Final = 16 + zlib.MAX_WBITS
_ZIP_BITS: Final = -zlib.MAX_WBITS


class ByteStream(Protocol):
    """Unpacked bytes, in order."""

    def read(self) -> bytes:
        """The next block, of at most 256 KiB; empty at the end.

        Raises:
            SourceError: the bytes are damaged or cut off here, or unpack to more than allowed.
        """
        ...


def open_stream(file: SourceFile, packing: Packing, *, offset: int, max_bytes: int) -> ByteStream:
    """A stream of a file's unpacked bytes. It moves the file's own position: one stream a file at a time.

    Args:
        file: what to read.
        packing: how it is packed.
        offset: how many unpacked bytes to pass over.
        max_bytes: how many bytes a packed file may unpack to, those passed over included.

    Raises:
        SourceError: the file is damaged before the offset.
    """
    if packing.kind == "plain":
        file.raw.seek(offset)
        return _Plain(file)
    members = _Stored(file, packing) if packing.kind == "stored" else _Inflated(file, packing)
    stream = _Bounded(members, max_bytes)
    stream.skip(offset)
    return stream


class _Plain:
    def __init__(self, file: SourceFile) -> None:
        self._raw = file.raw

    def read(self) -> bytes:
        return self._raw.read(BLOCK_BYTES)


class _Bounded:
    """A packed stream that may unpack to so much and no more, against files made to fill a disk or a memory."""

    def __init__(self, stream: ByteStream, max_bytes: int) -> None:
        self._stream = stream
        self._left = max_bytes
        self._max_bytes = max_bytes
        self._kept = b""

    def read(self) -> bytes:
        block, self._kept = self._kept or self._stream.read(), b""
        if len(block) <= self._left:
            self._left -= len(block)
            return block
        if self._left:
            allowed, self._kept = block[: self._left], block[self._left :]
            self._left = 0
            return allowed
        raise SourceError(
            f"unpacks to more than WORKER_MAX_DECOMPRESSED_BYTES ({self._max_bytes:,}); split it, or raise that setting"
        )

    def skip(self, offset: int) -> None:
        while offset:
            block = self.read()
            if not block:
                raise SourceError(f"ends {offset:,} bytes before the place where the run is to go on")
            self._kept = block[offset:]
            self._left += len(self._kept)
            offset -= len(block) - len(self._kept)


class _Packed:
    """The packed bytes of a file, between two offsets."""

    def __init__(self, file: SourceFile, packing: Packing) -> None:
        self._raw = file.raw
        self._raw.seek(packing.start)
        self._left = None if packing.end is None else packing.end - packing.start

    def more(self) -> bytes:
        size = _INPUT_BYTES if self._left is None else min(_INPUT_BYTES, self._left)
        block = self._raw.read(size) if size else b""
        if self._left is not None:
            self._left -= len(block)
        return block

    @property
    def exhausted(self) -> bool:
        return not self._left


class _Stored:
    """A zip's member that was put in as it is."""

    def __init__(self, file: SourceFile, packing: Packing) -> None:
        self._packed = _Packed(file, packing)
        self._crc = packing.crc
        self._sum = 0

    def read(self) -> bytes:
        block = self._packed.more()
        self._sum = zlib.crc32(block, self._sum)
        if not block and not self._packed.exhausted:
            raise SourceError("is cut off in the middle of the zip's file")
        if not block and self._sum != self._crc:
            raise SourceError("is a damaged zip: its checksum does not fit its content")
        return block


class _Inflated:
    """A gzip, of one or more members, or the deflated member of a zip."""

    def __init__(self, file: SourceFile, packing: Packing) -> None:
        self._packed = _Packed(file, packing)
        self._kind = "gzip" if packing.kind == "gzip" else "zip"
        self._crc = packing.crc
        self._sum = 0
        self._inflate = self._new_member()
        self._input = b""
        self._damage: SourceError | None = None
        self._ended = False

    def read(self) -> bytes:
        while not self._ended and self._damage is None:
            if self._inflate.eof:
                self._next_member()
                continue
            block = self._unpack()
            if block:
                return block
        if self._damage is not None:
            raise self._damage
        return b""

    def _new_member(self) -> "zlib._Decompress":
        return zlib.decompressobj(_GZIP_BITS if self._kind == "gzip" else _ZIP_BITS)

    def _unpack(self) -> bytes:
        data = self._input or self._packed.more()
        try:
            block = self._inflate.decompress(data, BLOCK_BYTES)
            self._input = self._inflate.unconsumed_tail or self._inflate.unused_data
        except zlib.error as error:
            self._damage = SourceError(f"is a damaged {self._kind}: {error}")
            block = b""
        # Without new input the rest of the output may still come out of zlib, so only silence is the end.
        if not data and not block and not self._inflate.eof:
            self._damage = self._damage or SourceError(f"is cut off: its {self._kind} data has no end")
        if self._crc is not None:
            self._sum = zlib.crc32(block, self._sum)
        return block

    def _next_member(self) -> None:
        if self._crc is not None:
            self._ended = True
            if self._sum != self._crc:
                self._damage = SourceError("is a damaged zip: its checksum does not fit its content")
            return
        # Padding with zeros between and after members is what tape tools leave; gzip itself ignores it too.
        while not (rest := self._input.lstrip(b"\0")):
            self._input = self._packed.more()
            if not self._input:
                self._ended = True
                return
        self._input = rest
        self._inflate = self._new_member()
