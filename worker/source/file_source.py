"""What all files of rows share: the cursor, the batches, and the rule that a file stays what it was.

Owns resuming, progress and how a damage is reported. What a line means is left to the format's own module.
"""

from dataclasses import dataclass, field
from typing import Annotated, Final, Protocol

from pydantic import Field, ValidationError

from worker.core.errors import SourceError
from worker.source.batch import Batch, RowFault
from worker.source.cursor import Count, SourceCursor
from worker.source.files import Fingerprint, SourceFile
from worker.source.lines import KEPT_BYTES, LineReader

_BATCH_BYTES: Final = 16 * 1024 * 1024


class FileCursor(SourceCursor):
    """Where reading a file goes on.

    Attributes:
        offset: of the next row, in unpacked bytes.
        line: the number of the line that begins there.
        read: rows before it, faulty ones counted.
        file: the file as it was when the run started.
    """

    offset: Count
    line: Annotated[int, Field(ge=1, strict=True)]
    read: Count
    file: Fingerprint

    @classmethod
    def parse(cls, cursor: dict[str, object]) -> "FileCursor":
        """A cursor out of its JSON form.

        Raises:
            SourceError: it is not one of a file.
        """
        try:
            return cls.model_validate(cursor)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors())
            raise SourceError(
                f"The saved cursor is not one of a file ({wrong}), so this run cannot go on; start a new run"
            ) from error


@dataclass(slots=True)
class Draft:
    """A batch being put together: rows, the line of each, and the lines that gave none."""

    rows: list[tuple[object, ...]] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    faults: list[RowFault] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Rows so far, faulty ones counted."""
        return len(self.rows) + len(self.faults)

    def add_fault(self, position: int, reason: str, raw: bytes) -> None:
        """Add a row that cannot be used, with the beginning of its text."""
        text = raw[:KEPT_BYTES].decode("utf-8", "replace")
        self.faults.append(RowFault(position, reason, {"raw": text}))


def take_long_line(lines: LineReader, max_row_bytes: int, draft: Draft) -> bool:
    """Pass over a line that is too long to be a row, as a fault; False where the next line is not one."""
    long = lines.long_line
    if long is None:
        return False
    draft.add_fault(
        lines.line,
        f"the row is {long.length:,} bytes long, above WORKER_MAX_ROW_BYTES ({max_row_bytes:,})",
        long.head,
    )
    lines.skip_long_line()
    return True


def not_utf8(raw: bytes) -> str:
    """Where and how a row's bytes stop being UTF-8; empty where they are."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte 0x{raw[error.start]:02x} at byte {error.start + 1} of the row"
    return ""


class RowFormat(Protocol):
    """How lines become rows."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the rows are aligned with."""
        ...

    @property
    def empty_is_text(self) -> bool:
        """Whether the format writes text only, and absence as an empty cell."""
        ...

    def take(self, lines: LineReader, need: int, draft: Draft) -> bool:
        """Move forward by at least one line and at most `need` rows; False where nothing more can be read."""
        ...


class FileSource:
    """The rows of one file, read in order. A `RowSource`."""

    def __init__(self, file: SourceFile, lines: LineReader, rows: RowFormat, *, read: int = 0) -> None:
        self._file = file
        self._lines = lines
        self._format = rows
        self._read = read
        self._fraction = 0.0

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the file carries, the same on every attempt."""
        return self._format.columns

    @property
    def empty_is_text(self) -> bool:
        """Whether the format writes text only, and absence as an empty cell."""
        return self._format.empty_is_text

    def read(self, size: int) -> Batch:
        """The next at most `size` rows, fewer where they are very large: a batch is of about 16 MiB of text at most.

        Raises:
            SourceError: the file is damaged from here on, or changed since the run started.
        """
        lines, draft, start, more = self._lines, Draft(), self._lines.offset, True
        while more and draft.count < size and lines.offset - start < _BATCH_BYTES:
            more = self._format.take(lines, size - draft.count, draft)
        last = lines.ended()
        self._file.check_untouched()
        if lines.damage is not None and not more and not draft.count:
            raise damaged(self._file, lines)
        self._read += draft.count
        return Batch(
            rows=draft.rows,
            positions=draft.positions,
            faults=draft.faults,
            cursor=self._cursor(),
            last=last,
            fraction=self._progress(last=last),
        )

    def close(self) -> None:
        """Give back the file."""
        self._file.close()

    def _cursor(self) -> dict[str, object]:
        return FileCursor(
            offset=self._lines.offset,
            line=self._lines.line,
            read=self._read,
            columns=list(self.columns),
            empty_is_text=self.empty_is_text,
            file=self._file.fingerprint,
        ).model_dump()

    def _progress(self, *, last: bool) -> float:
        """How far the file's own bytes are used up, less the share of what was unpacked ahead."""
        if last:
            return 1.0
        used = self._file.raw.tell() / max(1, self._file.fingerprint.size)
        taken = self._lines.offset / max(1, self._lines.received)
        self._fraction = max(self._fraction, min(1.0, used * taken))
        return self._fraction


def damaged(file: SourceFile, lines: LineReader) -> SourceError:
    """The error of a file that cannot be read on, in the words of a person who has to mend it."""
    return SourceError(
        f"{file.given!r} {lines.damage}. It could be read up to line {lines.line - 1}; what was committed stays. Make "
        "the file whole and start a new run"
    )
