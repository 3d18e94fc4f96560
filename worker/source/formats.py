"""What a file's name tells: its format, and the character between the fields of a CSV.

Owns the endings, for reading and for writing alike, so that a file is read as it was written. Opens nothing.
"""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

from worker.core.errors import RequestError
from worker.source.spec import FileFormat

GZIP: Final = frozenset({".gz", ".gzip"})
ZIP: Final = ".zip"

_FORMATS: Final[dict[str, FileFormat]] = {".csv": "csv", ".tsv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}


def packing_ending(name: str) -> str:
    """The last ending of a file's name, in small letters: it tells the packing where there is one."""
    return PurePosixPath(name.lower()).suffix


def format_ending(name: str) -> str:
    """The ending of a file's name that tells its format, below one that tells its packing."""
    path = PurePosixPath(name.lower())
    packed = path.suffix in GZIP or path.suffix == ZIP
    return PurePosixPath(path.stem).suffix if packed else path.suffix


def format_named(uri: str, endings: Sequence[str], error: type[RequestError]) -> FileFormat:
    """The format that the first known ending stands for.

    Args:
        uri: how the file was asked for, for the message.
        endings: as `format_ending` returns them.
        error: what to raise.

    Raises:
        RequestError: of the given class: no ending is known.
    """
    for ending in endings:
        if ending in _FORMATS:
            return _FORMATS[ending]
    raise error(
        f"The name of {uri!r} does not tell what the file holds; it would end in {', '.join(_FORMATS)}. Pass "
        '"format": "csv" or "format": "ndjson" beside "uri"'
    )


def delimiter_named(endings: Sequence[str]) -> str:
    """What stands between the fields of a CSV whose name has one of these endings."""
    return "\t" if ".tsv" in endings else ","
