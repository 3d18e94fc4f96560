"""From inline rows or the name of a file to an open source of rows, at its start or at a cursor.

Owns the choice of reader, by the request and by a file's name. Refuses what cannot be read, before the first row.
"""

from contextlib import ExitStack
from dataclasses import dataclass

from worker.core.errors import SourceError
from worker.source.batch import RowSource
from worker.source.compression import Packing, packing_of
from worker.source.csv_header import read_header
from worker.source.csv_source import CsvRows
from worker.source.file_source import FileCursor, FileSource, RowFormat
from worker.source.files import SourceFile
from worker.source.formats import delimiter_named, format_ending, format_named
from worker.source.inline_source import InlineSource
from worker.source.lines import LineReader
from worker.source.ndjson_source import NdjsonRows, find_columns
from worker.source.spec import FileFormat, SourceLimits, SourceSpec, check_inline
from worker.source.streams import open_stream


def open_rows(spec: SourceSpec, limits: SourceLimits, cursor: dict[str, object] | None = None) -> RowSource:
    """Open a source that is no table. Blocks: call it in a thread.

    Args:
        spec: what to read.
        limits: what may be reached, and how large it may be.
        cursor: of the last batch that was dealt with; None starts from the beginning. A plain file is entered there
            by seeking; a packed one is unpacked again up to there.

    Raises:
        SourceError: the source cannot be read, or changed since the run started.
        PayloadError: inline rows are too large.
    """
    if spec.rows is not None:
        check_inline(spec, limits)
        return InlineSource(spec.rows, cursor)
    if spec.uri is None:
        raise SourceError(f"The source {spec.model_dump(exclude_none=True)} is neither inline rows nor a file")
    return _open_file(spec.uri, spec.format, limits, None if cursor is None else FileCursor.parse(cursor))


@dataclass(frozen=True, slots=True)
class _Opened:
    """A file that was found readable, and how it is packed."""

    file: SourceFile
    packing: Packing
    limits: SourceLimits

    def lines(self, offset: int = 0, line: int = 1) -> LineReader:
        try:
            stream = open_stream(self.file, self.packing, offset=offset, max_bytes=self.limits.max_decompressed_bytes)
        except SourceError as damage:
            raise SourceError(
                f"{self.file.given!r} {damage}: it cannot be read on from line {line}; what was committed stays. Make "
                "the file whole and start a new run"
            ) from damage
        return LineReader(stream, offset=offset, line=line, max_line_bytes=self.limits.max_row_bytes)


def _open_file(uri: str, asked: FileFormat | None, limits: SourceLimits, cursor: FileCursor | None) -> FileSource:
    with ExitStack() as stack:
        file = SourceFile.open(uri, limits.data_dirs)
        stack.callback(file.close)
        if cursor is not None:
            file.check_same(cursor.file)
        opened = _Opened(file, packing_of(file), limits)
        endings = (format_ending(opened.packing.name), format_ending(file.name))
        kind = asked or format_named(uri, endings, SourceError)
        delimiter = delimiter_named(endings)
        if cursor is None:
            lines, columns = _start(opened, kind, delimiter)
        else:
            lines, columns = opened.lines(cursor.offset, cursor.line), tuple(cursor.columns)
        rows: RowFormat
        if kind == "csv":
            rows = CsvRows(columns, delimiter, limits.max_row_bytes)
        else:
            rows = NdjsonRows(columns, limits.max_row_bytes)
        source = FileSource(file, lines, rows, read=0 if cursor is None else cursor.read)
        stack.pop_all()
        return source


def _start(opened: _Opened, kind: FileFormat, delimiter: str) -> tuple[LineReader, tuple[str, ...]]:
    """The lines of the first row and after, and the columns: those of a CSV's header, or of an NDJSON's first rows."""
    lines = opened.lines()
    if kind == "csv":
        return lines, read_header(opened.file, lines, delimiter, opened.limits.max_row_bytes)
    columns = find_columns(lines)
    return opened.lines(), columns
