"""One folder, held open, and what may be done to the files in it.

Owns that everything happens in the folder that was allowed, by its descriptor, whatever its path leads to later; that
a name's change reaches the disk; and that no link is followed. Refuses to know what the files mean. Needs POSIX.
"""

import errno
import os
import stat
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, Self

from worker.core.errors import OutputError

_FOLDER_FLAGS: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_FILE_FLAGS: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_READABLE_BY_UMASK: Final = 0o666
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_PLACE: Final = frozenset({errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
# EPERM is what most file systems without links say, and Linux of a file that belongs to somebody else.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
# Some file systems have nothing to sync in a folder, and say so in one of these ways.
_NOTHING_TO_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})


class Folder:
    """A folder that is open until it is closed.

    Attributes:
        path: where it is, for messages.
    """

    def __init__(self, descriptor: int, path: str) -> None:
        self.path = path
        self._descriptor = descriptor
        # A task that is cancelled never learns what its thread opened, and so cannot close it.
        self._give_back = weakref.finalize(self, os.close, descriptor)

    @classmethod
    def open(cls, root: str, below: Sequence[str]) -> Self:
        """Open a folder beneath another one, making those on the way that are missing.

        Args:
            root: the outermost, by its real path. It is made too, where its own parent exists: a parent that does not
                may be a disk that is not mounted.
            below: the names from there on, none of which may be a link.

        Raises:
            OutputError: one of them is no folder, or may not be made or opened.
        """
        path, descriptor = root, _open_root(root)
        for name in below:
            path = os.path.join(path, name)  # noqa: PTH118 - a path is text here, for names that are not UTF-8
            try:
                inner = _open_or_make(name, descriptor, path)
            finally:
                os.close(descriptor)
            descriptor = inner
        return cls(descriptor, path)

    def path_of(self, name: str) -> str:
        """The path of a file in it, for messages."""
        return os.path.join(self.path, name)  # noqa: PTH118 - as above

    def create(self, name: str) -> int:
        """Create a file that does not exist, and open it for appending.

        Raises:
            FileExistsError: it exists.
            OutputError: it may not be created.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | _FILE_FLAGS
        with named(self.path_of(name)):
            return os.open(name, flags, _READABLE_BY_UMASK, dir_fd=self._descriptor)

    def read(self, name: str) -> int:
        """Open a file for reading.

        Raises:
            FileNotFoundError: there is none.
            OutputError: it may not be opened.
        """
        with named(self.path_of(name)):
            return os.open(name, os.O_RDONLY | _FILE_FLAGS, dir_fd=self._descriptor)

    def stat(self, name: str) -> os.stat_result | None:
        """What a name stands for, a link for itself; None where it stands for nothing.

        Raises:
            OutputError: nothing can have that name.
        """
        with named(self.path_of(name)):
            try:
                return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
            except FileNotFoundError:
                return None

    def link(self, name: str, new: str) -> bool:
        """Give a file a second name, which nothing has yet.

        Returns:
            Whether that was done: False where the file system has no such links.

        Raises:
            FileExistsError: something has that name.
            FileNotFoundError: there is no such file.
        """
        with named(self.path_of(new)):
            try:
                os.link(name, new, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor, follow_symlinks=False)
            except OSError as error:
                if error.errno in _NO_LINKS:
                    return False
                raise
        return True

    def replace(self, name: str, new: str) -> None:
        """Give a file another name, atomically, in place of what had it.

        Raises:
            FileNotFoundError: there is no such file.
        """
        with named(self.path_of(new)):
            os.replace(name, new, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with named(self.path_of(name)), suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def find(self, wanted: Callable[[str], bool]) -> list[str]:
        """The names in it that are wanted."""
        with os.scandir(self._descriptor) as entries:
            return [entry.name for entry in entries if wanted(entry.name)]

    def sync(self) -> None:
        """See that the names are on the disk: a file that is synced may still lose its name."""
        with named(self.path):
            _sync(self._descriptor)

    def close(self) -> None:
        """Give back the descriptor."""
        self._give_back()


@contextmanager
def named(path: str) -> Iterator[None]:
    """Put a file's path into the errors of what is done to it: a descriptor's tell none, nor which folder.

    Raises:
        OutputError: it may not be done, or the path leads nowhere.
    """
    try:
        yield
    except OSError as error:
        error.filename = path
        if error.errno in _FORBIDDEN:
            raise OutputError(
                f"{path!r} may not be used by the worker's user: {error.strerror}. Let it read and write there, or "
                "choose another folder"
            ) from error
        if error.errno in _NO_PLACE:
            raise OutputError(f"{path!r} is no place for a file: {error.strerror}. Choose another name") from error
        raise


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of some bytes: one call may write a part of them."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def is_file(facts: os.stat_result) -> bool:
    """Whether it is a regular file, rather than a folder, a link, a pipe or a device."""
    return stat.S_ISREG(facts.st_mode)


def _open_root(root: str) -> int:
    with suppress(FileNotFoundError), named(root):
        return os.open(root, _FOLDER_FLAGS)
    above, name = os.path.split(root)
    try:
        with named(above):
            outer = os.open(above, _FOLDER_FLAGS)
    except FileNotFoundError as error:
        raise OutputError(
            f"There is no folder {above!r} to make {root!r} in. Is its disk mounted? Make it, or name another one in "
            "WORKER_OUTPUT_DIRS, for example WORKER_OUTPUT_DIRS=/data/out"
        ) from error
    try:
        return _open_or_make(name, outer, root)
    finally:
        os.close(outer)


def _open_or_make(name: str, outer: int, path: str) -> int:
    with named(path):
        with suppress(FileNotFoundError):
            return os.open(name, _FOLDER_FLAGS, dir_fd=outer)
        # Another run may be making it at this moment.
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=outer)
        _sync(outer)
        return os.open(name, _FOLDER_FLAGS, dir_fd=outer)


def _sync(folder: int) -> None:
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NOTHING_TO_SYNC:
            raise
