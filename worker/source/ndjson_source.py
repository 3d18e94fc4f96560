"""Rows of an NDJSON file: one JSON object a line, in UTF-8.

Owns which columns such a file carries: the members of its first 1,000 rows, found once and kept in the cursor, for a
table is written with the same columns throughout. Refuses a later row with another member, as that row's fault.
"""

from typing import Final

import orjson

from worker.source.batch import ABSENT
from worker.source.csv_header import UTF8_MARK
from worker.source.file_source import Draft, not_utf8, take_long_line
from worker.source.json_numbers import has_many_digits, parse_object
from worker.source.lines import LineReader

_SCANNED_ROWS: Final = 1_000
_SCANNED_BYTES: Final = 8 * 1024 * 1024


def find_columns(lines: LineReader) -> tuple[str, ...]:
    """The members of a file's first 1,000 rows, or of its first 8 MiB, in the order in which they are first seen."""
    names: dict[str, None] = {}
    rows = 0
    while rows < _SCANNED_ROWS and lines.offset < _SCANNED_BYTES:
        held = _peek(lines, _SCANNED_ROWS - rows)
        if not held and lines.long_line is None:
            break
        for line in filter(bytes.strip, held):
            found = parse_object(line)
            names.update(dict.fromkeys(found) if isinstance(found, dict) else {})
            rows += 1
        lines.advance(len(held))
        if not held:
            lines.skip_long_line()
            rows += 1
    return tuple(names)


class NdjsonRows:
    """Lines of JSON as rows. A member that an object lacks is `ABSENT`; `null` is None; an empty line is no row."""

    def __init__(self, columns: tuple[str, ...], max_row_bytes: int) -> None:
        self._columns = columns
        self._known = frozenset(columns)
        self._max_row_bytes = max_row_bytes

    @property
    def columns(self) -> tuple[str, ...]:
        """The members of the first rows."""
        return self._columns

    @property
    def empty_is_text(self) -> bool:
        """False: JSON tells a lacking member from an empty text."""
        return False

    def take(self, lines: LineReader, need: int, draft: Draft) -> bool:
        """Move forward by at least one line and at most `need` rows; False where nothing more can be read."""
        held = _peek(lines, need)
        if not held:
            return take_long_line(lines, self._max_row_bytes, draft)
        rows = self._plain(held)
        if rows is None:
            self._take_singly(held, lines.line, draft)
        else:
            draft.rows += rows
            draft.positions += range(lines.line, lines.line + len(rows))
        lines.advance(len(held))
        return True

    def _plain(self, held: list[bytes]) -> list[tuple[object, ...]] | None:
        """The usual case: every line is an object of known members with ordinary numbers. None where one is not."""
        if has_many_digits(b"".join(held)):
            return None
        try:
            objects = list(map(orjson.loads, held))
        except orjson.JSONDecodeError:
            return None
        if set(map(type, objects)) != {dict}:
            return None
        columns = self._columns
        if all(tuple(found) == columns for found in objects):
            return [tuple(found.values()) for found in objects]
        rows = [row for found in objects if (row := self._align(found)) is not None]
        return rows if len(rows) == len(objects) else None

    def _take_singly(self, held: list[bytes], first: int, draft: Draft) -> None:
        for position, line in enumerate(held, first):
            if not line.strip():
                continue
            found = not_utf8(line) or parse_object(line)
            row = self._align(found) if isinstance(found, dict) else None
            if row is not None:
                draft.rows.append(row)
                draft.positions.append(position)
            else:
                draft.add_fault(position, found if isinstance(found, str) else self._unknown(found), line)

    def _align(self, found: dict[str, object]) -> tuple[object, ...] | None:
        """An object's values in the order of the columns; None where it has a member that is no column."""
        if not found.keys() <= self._known:
            return None
        return tuple([found.get(column, ABSENT) for column in self._columns])

    def _unknown(self, found: dict[str, object]) -> str:
        name = next(name for name in found if name not in self._known)
        return (
            f"the member {name!r} is not among the columns, which are taken from the first {_SCANNED_ROWS:,} rows "
            f"(or {_SCANNED_BYTES // 1024**2} MiB): put a row with all columns first"
        )


def _peek(lines: LineReader, count: int) -> list[bytes]:
    """The next lines, the file's first without the mark that some editors begin a file with."""
    held = lines.peek(count)
    if held and lines.offset == 0 and held[0].startswith(UTF8_MARK):
        return [held[0].removeprefix(UTF8_MARK), *held[1:]]
    return held
