"""One regular file, opened safely and watched: its descriptor, and the fingerprint that says whether it changed.

Owns the check that what was opened is what was allowed. Refuses folders, pipes and devices, and a file that changed
since its run started. Knows nothing of what the bytes mean.
"""

import hashlib
import io
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, Field

from worker.core.errors import SourceError
from worker.source.paths import READ, path_of, real_path

_SAMPLE_BYTES: Final = 64 * 1024
# O_NONBLOCK: opening a pipe that nobody writes to would wait for ever. It has no effect on a regular file.
_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class Fingerprint(BaseModel, extra="forbid", frozen=True):
    """What tells a file from a changed one without reading it whole.

    Attributes:
        size: bytes.
        mtime_ns: when it was last modified, in nanoseconds.
        sha256: of its first and its last 64 KiB.
    """

    size: Annotated[int, Field(ge=0, strict=True)]
    mtime_ns: Annotated[int, Field(strict=True)]
    sha256: str


class SourceFile:
    """A regular file under the data folders, open for reading. Closed by whoever opened it."""

    def __init__(self, raw: io.FileIO, path: str, given: str) -> None:
        self.raw = raw
        self.path = path
        self.given = given
        self.fingerprint = self._take_fingerprint()

    @classmethod
    def open(cls, uri: str, data_dirs: Sequence[Path]) -> Self:
        """Open what a URI or path names.

        Raises:
            SourceError: it is missing, unreadable, not a regular file, outside the data folders, or was swapped for
                another while it was being opened.
        """
        path = real_path(path_of(uri, READ), data_dirs, READ, given=uri)
        try:
            descriptor = os.open(path, _FLAGS)
        except OSError as error:
            raise _cannot_open(uri, error) from error
        try:
            _check_opened(descriptor, path, uri)
            return cls(io.FileIO(descriptor, "rb"), path, uri)
        except BaseException:
            os.close(descriptor)
            raise

    @property
    def name(self) -> str:
        """The file's own name, without its folder: of the path as given, for a link's target may be called anything."""
        return os.path.basename(path_of(self.given, READ))  # noqa: PTH119 - a path is text here, for names that are not UTF-8

    def check_same(self, frozen: Fingerprint) -> None:
        """See that the file is the one that the run started with.

        Raises:
            SourceError: size, modification time or content differ.
        """
        now = self.fingerprint
        if now.size != frozen.size:
            raise self._changed(f"it had {frozen.size:,} bytes and has {now.size:,}")
        if now.sha256 != frozen.sha256:
            raise self._changed("its size is the same, and its content is not")
        if now.mtime_ns != frozen.mtime_ns:
            raise self._changed("its size and ends are the same, and it was written to since")

    def check_untouched(self) -> None:
        """See, at the cost of one system call, that nobody wrote to the file since it was opened.

        Raises:
            SourceError: somebody did.
        """
        facts = os.fstat(self.raw.fileno())
        if (facts.st_size, facts.st_mtime_ns) != (self.fingerprint.size, self.fingerprint.mtime_ns):
            raise self._changed("it was written to while it was being read")

    def close(self) -> None:
        """Give back the descriptor."""
        self.raw.close()

    def _changed(self, how: str) -> SourceError:
        return SourceError(
            f"{self.given!r} changed since the run started: {how}. What was committed stays. Leave a file alone until "
            "its run has ended, and start a new run for the new content"
        )

    def _take_fingerprint(self) -> Fingerprint:
        facts = os.fstat(self.raw.fileno())
        digest = hashlib.sha256()
        for start in (0, max(0, facts.st_size - _SAMPLE_BYTES)):
            self.raw.seek(start)
            digest.update(self.raw.read(_SAMPLE_BYTES))
        return Fingerprint(size=facts.st_size, mtime_ns=facts.st_mtime_ns, sha256=digest.hexdigest())


def _cannot_open(given: str, error: OSError) -> SourceError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return SourceError(
            f"There is no file {given!r}. Check its name, and that the worker sees the same disk as you; a relative "
            "path is looked up in the folders of WORKER_DATA_DIRS"
        )
    if isinstance(error, PermissionError):
        return SourceError(f"{given!r} may not be read by the worker's user: {error.strerror}. Give it read permission")
    return SourceError(f"{given!r} cannot be opened: {error.strerror}")


def _check_opened(descriptor: int, path: str, given: str) -> None:
    """See that the descriptor is the regular file that the checked path still leads to, without any link on the way.

    The check comes after opening, so a folder or file swapped for a link in between is noticed.
    """
    opened = os.fstat(descriptor)
    if stat.S_ISDIR(opened.st_mode):
        raise SourceError(f"{given!r} is a folder; name one file in it")
    if not stat.S_ISREG(opened.st_mode):
        raise SourceError(f"{given!r} is not a regular file (a pipe, socket or device?); copy the rows into a file")
    try:
        there = Path(path).lstat()
    except OSError as error:
        raise _swapped(given) from error
    if os.path.realpath(path) != path or not os.path.samestat(opened, there):
        raise _swapped(given)


def _swapped(given: str) -> SourceError:
    return SourceError(f"{given!r} was replaced while it was being opened; leave the file alone and start a new run")
