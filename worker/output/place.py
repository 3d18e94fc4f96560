"""Where a run's file is made: the open folder, the names in it, and how a person knows them.

Owns finding the folder, and the checks that come before the first row. Refuses what lies outside the output folders,
what is there already, and to go on where committed bytes are gone.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from worker.core.errors import OutputError
from worker.output.cursor import Piece
from worker.output.folder import Folder, is_file
from worker.output.names import Names
from worker.output.spec import WRITTEN
from worker.source.paths import path_of, real_path


@dataclass(frozen=True, slots=True)
class Place:
    """The place of one file that a run makes.

    Attributes:
        folder: open; closed by whoever opened it.
        names: of the file and of the run's own beside it.
        given: how the file was asked for.
        run_id: whose file it is.
    """

    folder: Folder
    names: Names
    given: str
    run_id: str

    @property
    def retry(self) -> str:
        """The command that lets the run go on."""
        return f"`heavylift retry {self.run_id}`"


def locate(uri: str, output_dirs: Sequence[Path]) -> tuple[str, list[str], str]:
    """Where a file is to be: an output folder's real path, the names of the folders below it, the file's name.

    Args:
        uri: a file that need not exist; a relative path is looked up in the first output folder.
        output_dirs: the folders that may be written.

    Raises:
        OutputError: it names no local file, or one outside the output folders.
    """
    path = path_of(uri, WRITTEN)
    roots = [os.path.realpath(folder) for folder in output_dirs]
    real = real_path(str(Path(*roots[:1], path)), output_dirs, WRITTEN, given=uri)
    root = max((root for root in roots if os.path.commonpath((real, root)) == root), key=len)
    if real == root:
        raise OutputError(f"{uri!r} is an output folder itself; name a file in it, for example {WRITTEN.example}")
    *below, name = PurePath(real).relative_to(root).parts
    return root, below, name


def check_free(place: Place, *, overwrite: bool) -> None:
    """See that the file may be put in its place later, as far as that can be known now.

    Raises:
        OutputError: something is there that may not be replaced.
    """
    there = place.folder.stat(place.names.target)
    if there is None:
        return
    if not is_file(there):
        raise OutputError(f"{place.given!r} is there and is no regular file (a folder?); name another file")
    if not overwrite:
        raise OutputError(
            f"{place.given!r} exists already ({there.st_size:,} bytes), and nothing is written over a file unless that "
            'is asked for. Move it away, name another file, or pass "overwrite": true'
        )


def check_unused(place: Place, fence: int) -> None:
    """See that nobody has written under the names that belong to this claim alone.

    Raises:
        OutputError: somebody has, which means that two ledgers know of this claim.
    """
    for name in (place.names.of("part", fence), place.names.of("whole", fence)):
        if place.folder.stat(name) is not None:
            raise OutputError(
                f"{place.folder.path_of(name)!r} exists, and only this claim of run {place.run_id!r} may write it. Was "
                "the ledger restored from a backup, or does a copy of it run elsewhere with the same output folder? If "
                f"not, move the file away, then {place.retry}"
            )


def check_segments(place: Place, segments: Sequence[Piece]) -> None:
    """See that what was committed is still there. What a segment holds beyond that was never committed.

    Raises:
        OutputError: a segment is missing or too short.
    """
    for segment in segments:
        name = place.names.of("part", segment.fence)
        facts = place.folder.stat(name)
        if facts is None or not is_file(facts):
            raise lost(place, name, segment, "it is not there")
        if facts.st_size < segment.bytes:
            raise lost(place, name, segment, f"it has {facts.st_size:,} bytes")


def lost(place: Place, name: str, piece: Piece, how: str) -> OutputError:
    """The error of a file that is not what was committed."""
    return OutputError(
        f"{place.folder.path_of(name)!r} is needed for {place.given!r}, and what was committed of it, "
        f"{piece.bytes:,} bytes, is lost: {how}. Was it moved, or does this worker see another disk? Put it back, then "
        f"{place.retry}; or start a new run"
    )
