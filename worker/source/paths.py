"""From the `uri` of a source to the real path of a file that may be read.

Owns which spellings name a local file and which folders are allowed. Refuses every other scheme, chained URIs, and
whatever lies outside the allowed folders once links are followed. Opens nothing.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

from worker.core.errors import SourceError

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


def path_of(uri: str) -> str:
    """The path that a URI or plain path spells, percent-decoded where it is a URI.

    Raises:
        SourceError: another scheme than `file`, another host than this one, a chained URI, or no usable path.
    """
    if "::" in uri:
        raise SourceError(f"{uri!r} is a chained URI (it holds '::'), which is refused; name the file itself")
    match = _SCHEME.match(uri)
    path = uri if match is None else _path_of_scheme(uri, match[1].lower(), uri[match.end() :])
    if not path or "\0" in path:
        raise SourceError(f"{uri!r} names no file; give for example file:///data/orders.csv")
    return path


def real_path(path: str, data_dirs: Sequence[Path], *, given: str) -> str:
    """The real path, after links, of a file that lies in one of the data folders. It need not exist.

    Args:
        path: absolute, or relative to a data folder; where several hold it, the first in their order wins.
        data_dirs: the folders that may be read.
        given: how the file was asked for, for the message.

    Raises:
        SourceError: it lies outside all of them.
    """
    try:
        folders = [os.path.realpath(folder) for folder in data_dirs]
        reals = [os.path.realpath(Path(folder, path)) for folder in folders]
        inside = [real for real in reals if any(os.path.commonpath((real, folder)) == folder for folder in folders)]
    except ValueError as error:
        raise SourceError(f"{given!r} is not a path that this system can have: {error}") from error
    if not inside:
        raise SourceError(
            f"{given!r} is outside the folders that may be read, by its real path after links: "
            f"{', '.join(folders) or 'there are none'}. Move the file into one, or add its folder to WORKER_DATA_DIRS, "
            "for example WORKER_DATA_DIRS=/data,/srv/incoming"
        )
    return next((real for real in inside if os.path.lexists(real)), inside[0])


def _path_of_scheme(uri: str, scheme: str, rest: str) -> str:
    if scheme != "file":
        raise SourceError(
            f"{uri!r} has the scheme {scheme!r}, which WORKER_URI_SCHEMES does not allow: only files of this machine "
            "can be read, such as file:///data/orders.csv or a path (./name where a name holds a colon)"
        )
    host, path = "", rest
    if rest.startswith("//"):
        host, slash, tail = rest[2:].partition("/")
        path = slash + tail
    if host.lower() not in {"", "localhost"}:
        raise SourceError(f"{uri!r} is on the host {host!r}; only local files can be read: file:///data/orders.csv")
    if not path.startswith("/"):
        raise SourceError(f"{uri!r} has no absolute path; write file:///data/orders.csv, with three slashes")
    return os.fsdecode(unquote_to_bytes(path))
