"""The joined file put in its place, and the rest cleared away.

Owns that nothing is written over a file unless that was asked for, and that doing it again, after a death at any point
or beside a worker that was taken for dead, ends right. The joined file keeps its first name: while both lead to the
same file, it is known to have been published. Where it was moved instead, its checksum tells.
"""

import os
import zlib
from typing import Final

from worker.core.errors import OutputError
from worker.output.cursor import Piece
from worker.output.folder import is_file, named, write_all
from worker.output.place import Place, lost

_BLOCK_BYTES: Final = 1024 * 1024


def publish(place: Place, whole: Piece, rows: int, *, overwrite: bool) -> None:
    """Put the joined file in its place, or find that it is there.

    Args:
        place: where.
        whole: the joined file.
        rows: how many it holds, for the message.
        overwrite: whether to replace what is there.

    Raises:
        OutputError: another file is there, or the joined file is lost.
    """
    name = place.names.of("whole", whole.fence)
    made = place.folder.stat(name)
    if made is None:
        _check_published(place, whole)
    elif not is_file(made) or made.st_size != whole.bytes:
        raise lost(place, name, whole, f"it has {made.st_size:,} bytes")
    elif overwrite:
        _replace(place, whole, rows)
    else:
        _add(place, whole, made, rows)
    place.folder.sync()


def clear_away(place: Place) -> None:
    """Remove all files of the run but the one that it was to make."""
    names = place.names

    def is_own(name: str) -> bool:
        return names.fence_of(name, "part") is not None or names.fence_of(name, "whole") is not None

    for name in place.folder.find(is_own):
        place.folder.remove(name)
    place.folder.sync()


def clear_joins(place: Place, before: int) -> None:
    """Remove what earlier claims joined and did not get to commit.

    Args:
        place: where.
        before: this claim's fence. A later claim's file may be the one that counts.
    """

    def is_older(name: str) -> bool:
        fence = place.names.fence_of(name, "whole")
        return fence is not None and fence < before

    for name in place.folder.find(is_older):
        place.folder.remove(name)


def _replace(place: Place, whole: Piece, rows: int) -> None:
    there = place.folder.stat(place.names.target)
    if there is not None and not is_file(there):
        raise _taken(place, whole, rows)
    _move(place, whole)


def _add(place: Place, whole: Piece, made: os.stat_result, rows: int) -> None:
    try:
        if place.folder.link(place.names.of("whole", whole.fence), place.names.target):
            return
        _reserve(place, whole)
    except FileExistsError as error:
        there = place.folder.stat(place.names.target)
        if there is not None and os.path.samestat(made, there):
            return
        if not _is_reserved(place, whole):
            raise _taken(place, whole, rows) from error
    _move(place, whole)


def _move(place: Place, whole: Piece) -> None:
    try:
        place.folder.replace(place.names.of("whole", whole.fence), place.names.target)
    except FileNotFoundError:
        # A worker that was taken for dead may have done it a moment before.
        _check_published(place, whole)


def _reserve(place: Place, whole: Piece) -> None:
    """Take the name with a small file of one's own, where there are no links: only that is then replaced.

    A death before its line is written leaves a file that nobody can tell from another's: a person has to remove it.
    """
    descriptor = place.folder.create(place.names.target)
    try:
        with named(place.folder.path_of(place.names.target)):
            write_all(descriptor, _reservation(place, whole))
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reservation(place: Place, whole: Piece) -> bytes:
    return os.fsencode(f"This name is kept for {place.names.of('whole', whole.fence)}\n")


def _is_reserved(place: Place, whole: Piece) -> bool:
    expected = _reservation(place, whole)
    there = place.folder.stat(place.names.target)
    if there is None or not is_file(there) or there.st_size != len(expected):
        return False
    return _crc32_of(place) == zlib.crc32(expected)


def _check_published(place: Place, whole: Piece) -> None:
    """See that the file in its place is the joined one, where that has its first name no more."""
    there = place.folder.stat(place.names.target)
    same_size = there is not None and is_file(there) and there.st_size == whole.bytes
    if not same_size or _crc32_of(place) != whole.crc32:
        raise lost(place, place.names.of("whole", whole.fence), whole, "it is not there")


def _crc32_of(place: Place) -> int:
    descriptor = place.folder.read(place.names.target)
    try:
        crc32 = 0
        with named(place.folder.path_of(place.names.target)):
            while block := os.read(descriptor, _BLOCK_BYTES):
                crc32 = zlib.crc32(block, crc32)
        return crc32
    finally:
        os.close(descriptor)


def _taken(place: Place, whole: Piece, rows: int) -> OutputError:
    made = place.folder.path_of(place.names.of("whole", whole.fence))
    return OutputError(
        f"{place.given!r} exists by now and is another file, which nothing is written over. All {rows:,} rows are in "
        f"{made!r}: move the other file away, then {place.retry}"
    )
