"""From a `uri` to the real path of a file that may be read, or written.

Owns which spellings name a local file and which folders are allowed; a `FileUse` says what for, so that a message tells
which setting to change. Refuses every other scheme, chained URIs, and whatever lies outside the allowed folders once
links are followed. Opens nothing.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

from worker.core.errors import RequestError, SourceError

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


@dataclass(frozen=True, slots=True)
class FileUse:
    """What a file is wanted for, in the words of its messages.

    Attributes:
        verb: what is done to it, such as `read`.
        setting: the setting that names the allowed folders.
        example_folders: a value that this setting may have.
        example: a file's URI, in one of those folders.
        error: what is raised where the file may not be used so.
    """

    verb: str
    setting: str
    example_folders: str
    example: str
    error: type[RequestError]


READ: Final = FileUse("read", "WORKER_DATA_DIRS", "/data,/srv/incoming", "file:///data/orders.csv", SourceError)


def path_of(uri: str, use: FileUse) -> str:
    """The path that a URI or plain path spells, percent-decoded where it is a URI.

    Raises:
        RequestError: of the use's class: another scheme than `file`, another host than this one, a chained URI, or no
            usable path.
    """
    if "::" in uri:
        raise use.error(f"{uri!r} is a chained URI (it holds '::'), which is refused; name the file itself")
    match = _SCHEME.match(uri)
    path = uri if match is None else _path_of_scheme(uri, match[1].lower(), uri[match.end() :], use)
    if not path or "\0" in path:
        raise use.error(f"{uri!r} names no file; give for example {use.example}")
    return path


def real_path(path: str, folders: Sequence[Path], use: FileUse, *, given: str) -> str:
    """The real path, after links, of a file that lies in one of the allowed folders. It need not exist.

    Args:
        path: absolute, or relative to an allowed folder; where several hold it, the first in their order wins.
        folders: those that are allowed.
        use: what the file is wanted for.
        given: how the file was asked for, for the message.

    Raises:
        RequestError: of the use's class: it lies outside all of them.
    """
    try:
        allowed = [os.path.realpath(folder) for folder in folders]
        reals = [os.path.realpath(Path(folder, path)) for folder in allowed]
        inside = [real for real in reals if any(os.path.commonpath((real, folder)) == folder for folder in allowed)]
    except ValueError as error:
        raise use.error(f"{given!r} is not a path that this system can have: {error}") from error
    if not inside:
        raise use.error(
            f"{given!r} is outside the folders in which files may be {use.verb}, by its real path after links: "
            f"{', '.join(allowed) or 'there are none'}. Use one of them, or add the file's folder to {use.setting}, "
            f"for example {use.setting}={use.example_folders}"
        )
    return next((real for real in inside if os.path.lexists(real)), inside[0])


def _path_of_scheme(uri: str, scheme: str, rest: str, use: FileUse) -> str:
    if scheme != "file":
        raise use.error(
            f"{uri!r} has the scheme {scheme!r}, which WORKER_URI_SCHEMES does not allow: only files of this machine "
            f"can be {use.verb}, such as {use.example} or a path (./name where a name holds a colon)"
        )
    host, path = "", rest
    if rest.startswith("//"):
        host, slash, tail = rest[2:].partition("/")
        path = slash + tail
    if host.lower() not in {"", "localhost"}:
        raise use.error(f"{uri!r} is on the host {host!r}; only local files can be {use.verb}: {use.example}")
    if not path.startswith("/"):
        raise use.error(f"{uri!r} has no absolute path; write {use.example}, with three slashes")
    return os.fsdecode(unquote_to_bytes(path))
