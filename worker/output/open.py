"""From what was asked for to an open output, at its start or at a cursor.

Owns the checks before the first row, so that a file which cannot be made costs nothing but a message.
"""

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from worker.output.cursor import OutputCursor
from worker.output.folder import Folder
from worker.output.names import Names, run_key
from worker.output.place import Place, check_free, check_segments, check_unused, locate
from worker.output.rows import RowWriter
from worker.output.segmented import SegmentedOutput
from worker.output.spec import OutputSpec, file_kind


def open_output(
    spec: OutputSpec,
    output_dirs: Sequence[Path],
    *,
    run_id: str,
    started_at: datetime,
    fence: int,
    columns: Sequence[str],
    documents: Collection[str] = (),
    cursor: object = None,
) -> SegmentedOutput:
    """Open a file that a run makes. Blocks: call it in a thread.

    Folders that are missing below an output folder are made.

    Args:
        spec: the file.
        output_dirs: the folders that may be written (`WORKER_OUTPUT_DIRS`).
        run_id: whose file it is.
        started_at: when the run first started, the same on every attempt: a later run may have the same id.
        fence: of this claim; each claim's is above those before it.
        columns: what a new file carries. One that was begun keeps its own: see `SegmentedOutput.columns`.
        documents: those of the columns that hold JSON documents, which are given as JSON text.
        cursor: as `SegmentedOutput.cursor` returned it for the last committed chunk; None starts the file.

    Raises:
        OutputError: the file cannot be made, or what was made of it is lost.
    """
    kind = file_kind(spec)
    saved = None if cursor is None else OutputCursor.parse(cursor)
    begun = saved or OutputCursor(key=run_key(run_id, started_at), columns=list(columns))
    if begun.segments and fence <= begun.segments[-1].fence:
        raise ValueError(f"fence {fence} is not above that of the last segment, {begun.segments[-1].fence}")
    root, below, name = locate(spec.uri, output_dirs)
    with ExitStack() as stack:
        folder = Folder.open(root, below)
        stack.callback(folder.close)
        place = Place(folder, Names(name, begun.key), spec.uri, run_id)
        if begun.phase == "write":
            check_free(place, overwrite=spec.overwrite)
            check_unused(place, fence)
            check_segments(place, begun.segments)
        writer = RowWriter(begun.columns, kind, documents=documents)
        output = SegmentedOutput(place, writer, begun, fence, packed=kind.packed, overwrite=spec.overwrite)
        stack.pop_all()
        return output
