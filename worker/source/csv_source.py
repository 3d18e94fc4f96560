"""Rows of a CSV file: RFC 4180 in UTF-8, with a header.

Owns which lines make a record and which records are rows. A record that cannot be read costs itself alone: a malformed
or over-long one is the fault of its first line, and reading goes on at the next line, so that a quote which somebody
forgot to close does not swallow the rest of the file.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from worker.source.batch import ABSENT
from worker.source.file_source import Draft, not_utf8, take_long_line
from worker.source.lines import LineReader

_UNCLOSED: Final = "a quote is opened in this row and never closed; the lines after it were read as rows"


@dataclass(frozen=True, slots=True)
class _Window:
    """Consecutive lines, as bytes and as text; `clean` where all of them are UTF-8."""

    line: int
    raw: list[bytes]
    text: list[str]
    clean: bool

    @classmethod
    def of(cls, line: int, raw: list[bytes]) -> "_Window":
        try:
            return cls(line, raw, list(map(bytes.decode, raw)), clean=True)
        except UnicodeDecodeError:
            return cls(line, raw, [part.decode("utf-8", "surrogateescape") for part in raw], clean=False)


@dataclass(frozen=True, slots=True)
class Records:
    """Consecutive CSV records.

    Attributes:
        rows: the fields of each.
        ends: the index of the line where the first begins, then that of the line after each.
        fault: what is wrong with the record after them; empty where there is none, or where it only goes on after the
            last line.
    """

    rows: list[list[str]]
    ends: list[int]
    fault: str


def records(text: list[str], at: int, delimiter: str) -> Records:
    """Cut lines, from index `at` on, into CSV records."""
    rows, ends, dry = [], [at], False

    def feed() -> Iterator[str]:
        nonlocal dry
        yield from text[at:]
        dry = True

    reader = csv.reader(feed(), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            rows.append(row)
            ends.append(at + reader.line_num)
    except csv.Error as error:
        # Having run dry means an open quote, which the lines to come may close; anything else is final.
        if not dry:
            return Records(rows, ends, f"malformed CSV, a quote or carriage return in the wrong place: {error}")
    return Records(rows, ends, "")


class CsvRows:
    """Lines of CSV as rows of text. An empty cell, quoted or not, is `ABSENT`; an empty line is no row."""

    def __init__(self, columns: tuple[str, ...], delimiter: str, max_row_bytes: int) -> None:
        self._columns = columns
        self._delimiter = delimiter
        self._max_row_bytes = max_row_bytes
        allow_long_fields(max_row_bytes)

    @property
    def columns(self) -> tuple[str, ...]:
        """The header."""
        return self._columns

    @property
    def empty_is_text(self) -> bool:
        """True: every cell is text."""
        return True

    def take(self, lines: LineReader, need: int, draft: Draft) -> bool:
        """Move forward by at least one line and at most `need` rows; False where nothing more can be read."""
        held = lines.peek(need)
        if not held:
            return take_long_line(lines, self._max_row_bytes, draft)
        window = _Window.of(lines.line, held)
        taken = self._take_plain(window, draft) or self._take_quoted(window, need, draft)
        if not taken:
            return self._take_open(lines, held, draft)
        lines.advance(taken)
        return True

    def _take_plain(self, window: _Window, draft: Draft) -> int:
        """The usual case, in which each line is a record. Like its sisters it returns how many lines it used."""
        if not window.clean or b'"' in b"".join(window.raw):
            return 0
        try:
            rows = list(csv.reader(window.text, delimiter=self._delimiter, strict=True))
        except csv.Error:
            return 0
        width = len(self._columns)
        if set(map(len, rows)) == {width}:
            draft.rows += [_values(row) if "" in row else tuple(row) for row in rows]
            draft.positions += range(window.line, window.line + len(rows))
        else:
            for at, row in enumerate(rows):
                self._accept(row, window, at, at + 1, draft)
        return len(rows)

    def _take_quoted(self, window: _Window, need: int, draft: Draft) -> int:
        """Records of a line or several, short of one that goes on after the window."""
        at, goal = 0, draft.count + need
        while at < len(window.text) and draft.count < goal:
            found = records(window.text, at, self._delimiter)
            fault = found.fault
            for row, (start, end) in zip(found.rows, pairwise(found.ends), strict=True):
                if draft.count == goal:
                    return start
                at = end
                if end - start > 1 and self._is_too_long(window.raw[start:end]):
                    fault, at = self._too_long, start
                    break
                self._accept(row, window, start, end, draft)
            if not fault or draft.count == goal:
                break
            draft.add_fault(window.line + at, fault, window.raw[at])
            at += 1
        return at

    def _take_open(self, lines: LineReader, held: list[bytes], draft: Draft) -> bool:
        """One record that goes on after the lines seen so far."""
        taken = 0
        while not taken and not self._is_too_long(held):
            seen, held = len(held), lines.peek_more(2 * len(held))
            if len(held) == seen:
                break
            taken = self._take_quoted(_Window.of(lines.line, held), 1, draft)
        if not taken:
            too_long = self._is_too_long(held)
            if lines.damage is not None and not too_long:
                return False
            reason = self._too_long if too_long or not lines.exhausted else _UNCLOSED
            draft.add_fault(lines.line, reason, held[0])
        lines.advance(taken or 1)
        return True

    def _accept(self, row: list[str], window: _Window, start: int, end: int, draft: Draft) -> None:
        """Add a record as a row or, where it cannot be one, as a fault."""
        if not row:
            return
        reason = ""
        if not window.clean:
            reason = not_utf8(b"".join(window.raw[start:end]))
        if not reason and len(row) != len(self._columns):
            reason = f"{len(row)} fields where the header has {len(self._columns)}"
        if reason:
            draft.add_fault(window.line + start, reason, b"".join(window.raw[start:end]))
        else:
            draft.rows.append(_values(row))
            draft.positions.append(window.line + start)

    def _is_too_long(self, raw: list[bytes]) -> bool:
        return sum(map(len, raw)) > self._max_row_bytes

    @property
    def _too_long(self) -> str:
        return (
            f"the row is longer than WORKER_MAX_ROW_BYTES ({self._max_row_bytes:,}), perhaps for a quote that is never "
            "closed; the lines after its first were read as rows"
        )


def allow_long_fields(max_row_bytes: int) -> None:
    """Let the CSV parser read fields as long as a row may be: its own limit is 128 KiB, and the whole process's."""
    csv.field_size_limit(max(csv.field_size_limit(), max_row_bytes + 1))


def _values(row: list[str]) -> tuple[object, ...]:
    return tuple([cell or ABSENT for cell in row])
