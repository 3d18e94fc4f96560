"""The job parameter of a file to be written: where, in which format, and whether over what is there.

Owns what may be asked for, and what the file's name says of it. Refuses to touch a disk.
"""

from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from pydantic import BaseModel

from worker.core.errors import OutputError
from worker.source.formats import GZIP, ZIP, delimiter_named, format_ending, format_named, packing_ending
from worker.source.paths import FileUse, path_of
from worker.source.spec import FileFormat

WRITTEN: Final = FileUse("written", "WORKER_OUTPUT_DIRS", "/data/out", "file:///data/out/orders.csv", OutputError)

_OTHER_PACKINGS: Final = {".bz2": "bzip2", ".xz": "xz", ".zst": "zstandard", ".7z": "7-zip", ZIP: "zip"}


class OutputSpec(BaseModel, extra="forbid", frozen=True):
    """A file of rows that a job is to make.

    Attributes:
        uri: the file, as `file:///data/out/orders.csv.gz` or as a path; a relative path is looked up in the first of
            the output folders. A name that ends in `.gz` is packed.
        format: what the file is to hold; None infers it from the file's name.
        overwrite: whether an existing file is replaced, at once and only when the new one is whole.
    """

    uri: str
    format: FileFormat | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class FileKind:
    """How rows are written into a file.

    Attributes:
        format: of a row.
        delimiter: what stands between the fields of a CSV.
        packed: whether the file is a gzip.
    """

    format: FileFormat
    delimiter: str = ","
    packed: bool = False


def check_output(spec: OutputSpec) -> None:
    """See that a file can be asked for in this way. It needs no disk, so that a client may call it.

    Raises:
        OutputError: as of `file_kind`.
    """
    file_kind(spec)


def file_kind(spec: OutputSpec) -> FileKind:
    """How rows are written into the file that is asked for.

    Raises:
        OutputError: the URI names no local file, or its name does not tell the format, or names another packing.
    """
    name = PurePath(path_of(spec.uri, WRITTEN)).name
    packing = packing_ending(name)
    if packing in _OTHER_PACKINGS:
        raise OutputError(
            f"{spec.uri!r} is named as a file packed with {_OTHER_PACKINGS[packing]}, which is not written. Use gzip, "
            f"for example {WRITTEN.example}.gz, or no packing"
        )
    endings = (format_ending(name),)
    kind = spec.format or format_named(spec.uri, endings, OutputError)
    return FileKind(kind, delimiter_named(endings), packed=packing in GZIP)
