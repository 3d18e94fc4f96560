"""How a file is packed, told from its first bytes: plain, gzip, or a zip of exactly one file.

Owns recognising a packing and finding the packed bytes. Refuses other packings, several files in one zip, and
encryption. The unpacking itself is in `worker.source.streams`.
"""

import struct
import zipfile
from dataclasses import dataclass
from typing import Final, Literal

from worker.core.errors import SourceError
from worker.source.files import SourceFile

_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_REFUSED: Final = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"7z\xbc\xaf\x27\x1c": "7-zip",
}
_BZIP2_BLOCK: Final = b"1AY&SY"  # a text may begin with BZh; none goes on with this
_LISTED: Final = 10
_DIRECTORY_BYTES: Final = 4 * 1024 * 1024
_LOCAL_HEADER: Final = struct.Struct("<4s5H3I2H")
_ENCRYPTED: Final = 0x1


@dataclass(frozen=True, slots=True)
class Packing:
    """Where a file's packed bytes are and how to unpack them.

    Attributes:
        name: the name that tells the format: the file's own, or that of a zip's one member.
        kind: how the bytes are packed; `deflate` and `stored` are a zip's.
        start: the packed bytes' offset in the file.
        end: where they end; None at the end of the file.
        crc: the checksum of the unpacked bytes, for a zip.
    """

    name: str
    kind: Literal["plain", "gzip", "deflate", "stored"]
    start: int = 0
    end: int | None = None
    crc: int | None = None


def packing_of(file: SourceFile) -> Packing:
    """Recognise a file's packing.

    Raises:
        SourceError: it is packed in a way that is not read, or a zip is damaged, encrypted or holds several files.
    """
    file.raw.seek(0)
    head = file.raw.read(16)
    if head.startswith(_GZIP):
        return Packing(file.name, "gzip")
    if head.startswith(_ZIP):
        return _packing_of_zip(file)
    for magic, name in _REFUSED.items():
        if head.startswith(magic) and (magic != b"BZh" or head[4:10] == _BZIP2_BLOCK):
            raise SourceError(
                f"{file.given!r} is compressed with {name}, which is not read. Pack it again with gzip, for example "
                "`gzip orders.csv`, or give the plain file"
            )
    return Packing(file.name, "plain")


class _Directory:
    """A file that refuses to be read in great pieces: the table of contents of a zip is read whole."""

    def __init__(self, file: SourceFile) -> None:
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        if size > _DIRECTORY_BYTES:
            raise SourceError(f"{self._file.given!r} is a zip of very many files. Put one CSV or NDJSON file into it")
        return self._file.raw.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.raw.seek(offset, whence)

    def tell(self) -> int:
        return self._file.raw.tell()


def _packing_of_zip(file: SourceFile) -> Packing:
    try:
        with zipfile.ZipFile(_Directory(file)) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
    except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError) as error:
        raise SourceError(
            f"{file.given!r} begins like a zip and has no readable table of contents, which stands at its end: the "
            f"file is truncated or damaged ({error}). Copy it again"
        ) from error
    if len(members) != 1:
        names = ", ".join(repr(member.filename) for member in members[:_LISTED])
        more = f" and {len(members) - _LISTED} more" if len(members) > _LISTED else ""
        raise SourceError(
            f"{file.given!r} is a zip of {len(members)} files, and exactly one can be read. It holds: "
            f"{names or 'nothing'}{more}. Give one file by itself"
        )
    return _packing_of_member(file, members[0])


def _packing_of_member(file: SourceFile, member: zipfile.ZipInfo) -> Packing:
    kinds: dict[int, Literal["deflate", "stored"]] = {zipfile.ZIP_DEFLATED: "deflate", zipfile.ZIP_STORED: "stored"}
    if member.flag_bits & _ENCRYPTED:
        raise SourceError(f"{file.given!r} is an encrypted zip, which is not read. Give it unencrypted")
    if member.compress_type not in kinds:
        raise SourceError(
            f"{file.given!r} is a zip packed with method {member.compress_type}, which is not read. Pack it with the "
            "usual one, deflate, or with gzip"
        )
    file.raw.seek(member.header_offset)
    header = file.raw.read(_LOCAL_HEADER.size)
    if len(header) != _LOCAL_HEADER.size or not header.startswith(_ZIP[0]):
        raise SourceError(
            f"{file.given!r} is a damaged zip: nothing is where its table of contents says. Copy it again"
        )
    *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    start = member.header_offset + _LOCAL_HEADER.size + int(name_length) + int(extra_length)
    return Packing(
        member.filename, kinds[member.compress_type], start=start, end=start + member.compress_size, crc=member.CRC
    )
