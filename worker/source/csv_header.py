"""The header of a CSV file: which columns it carries.

Refuses a file without a header that could be one: columns are matched by name, so a missing or doubled name would
put values where they do not belong.
"""

from collections import Counter
from typing import Final

from worker.core.errors import SourceError
from worker.source.csv_source import allow_long_fields, records
from worker.source.file_source import damaged, not_utf8
from worker.source.files import SourceFile
from worker.source.lines import LineReader

UTF8_MARK: Final = b"\xef\xbb\xbf"
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
_SHOWN: Final = 200
_EMPTY_LINES: Final = 1_000


def read_header(file: SourceFile, lines: LineReader, delimiter: str, max_row_bytes: int) -> tuple[str, ...]:
    """Take the header: the first line that is not empty, within the first 1,000, and no more than one line.

    Raises:
        SourceError: there is none, it is not UTF-8 or not CSV, or a name is empty or doubled.
    """
    allow_long_fields(max_row_bytes)
    first = lines.peek(_EMPTY_LINES)
    lines.advance(next((at for at, line in enumerate(first) if line.strip(b"\r\n")), len(first)))
    text = _header_text(file, lines, max_row_bytes)
    found = records([text], 0, delimiter)
    if not found.rows:
        wrong = found.fault or "it opens a quote and does not close it in the same line"
        raise SourceError(f"The header of {file.given!r} cannot be read: {wrong}: {text[:_SHOWN]!r}")
    lines.advance(1)
    _check_names(found.rows[0], f"The header of {file.given!r}", repr(text.strip()[:_SHOWN]))
    return tuple(found.rows[0])


def _header_text(file: SourceFile, lines: LineReader, max_row_bytes: int) -> str:
    held = lines.peek(1)
    if lines.long_line is not None:
        raise SourceError(f"The header of {file.given!r} is longer than WORKER_MAX_ROW_BYTES ({max_row_bytes:,})")
    if not held and lines.damage is not None:
        raise damaged(file, lines)
    if not held:
        raise SourceError(f"{file.given!r} is empty; a CSV file begins with a header, for example id,name")
    if held[0].startswith(_UTF16_MARKS):
        raise SourceError(f"{file.given!r} is UTF-16; save it as UTF-8")
    raw = held[0].removeprefix(UTF8_MARK)
    if not raw.strip():
        raise SourceError(f"{file.given!r} begins with an empty line; a CSV file begins with a header, such as id,name")
    if wrong := not_utf8(raw):
        raise SourceError(f"The header of {file.given!r} is {wrong}; save the file as UTF-8")
    return raw.decode()


def _check_names(names: list[str], what: str, shown: str) -> None:
    if "" in names:
        raise SourceError(
            f"{what} has no name for column {names.index('') + 1}: {shown}. Name every column as the table does, for "
            "example id,name"
        )
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise SourceError(
            f"{what} names {', '.join(map(repr, doubled))} more than once: {shown}. Name each column once"
        )
