r"""Rows as the bytes of a file: CSV as RFC 4180 has it, or NDJSON.

Owns quoting, line ends and the header. A chunk is written a column at a time, as fast as the standard library's writer,
which cannot tell NULL from an empty text and leaves a lone carriage return unquoted. Refuses to touch a disk, and to
mend data: text that begins with `=`, `+`, `-` or `@` is data and stays as it is, so open a file in a spreadsheet only
where you trust whoever its rows come from.
"""

import re
from collections.abc import Collection, Sequence
from typing import Final

import orjson

from worker.output.spec import FileKind
from worker.output.values import forms, json_text, one_line

_BOOLEANS: Final = {True: "true", False: "false"}
_NUMBERS: Final = frozenset({int, float})
_BYTE_ORDER_MARK: Final = "\ufeff"


class RowWriter:
    r"""Writes rows of one table, in UTF-8 with `\n` at the end of each line.

    In a CSV, NULL is an empty cell and an empty text is `""`; a row of a single column that is NULL is `""` too, for an
    empty line would be no row. In NDJSON each row has every column, and NULL is `null`.

    Args:
        columns: the names, in the order of a row's values.
        kind: the file's.
        documents: the columns that hold JSON documents, whose values are JSON text as the database writes it: parsing
            them would round their numbers. In NDJSON they are no text but a part of their row's object.

    Attributes:
        head: what stands before the first row: the header of a CSV, nothing in NDJSON.
    """

    def __init__(self, columns: Sequence[str], kind: FileKind, *, documents: Collection[str] = ()) -> None:
        self._columns = tuple(columns)
        self._documents = frozenset(documents)
        self._delimiter = kind.delimiter
        self._render = self._csv if kind.format == "csv" else self._ndjson
        self._special = re.compile(f'["\r\n{_BYTE_ORDER_MARK}{re.escape(kind.delimiter)}]')
        self.head = self._lines([self._quoted([name]) for name in columns]) if kind.format == "csv" else b""

    def render(self, rows: Sequence[Sequence[object]]) -> bytes:
        """Some rows, each aligned with the columns.

        Raises:
            OutputError: a value has no exact form in a file.
        """
        if not rows:
            return b""
        if len(rows[0]) != len(self._columns):
            raise ValueError(f"A row of {len(rows[0])} values does not fit the columns {', '.join(self._columns)}")
        return self._render(list(zip(*rows, strict=True)))

    def _csv(self, values: Sequence[Sequence[object]]) -> bytes:
        return self._lines([self._cells(name, column) for name, column in zip(self._columns, values, strict=True)])

    def _lines(self, cells: Sequence[Sequence[str]]) -> bytes:
        if len(cells) == 1:
            cells = [[cell or '""' for cell in cells[0]]]
        return ("\n".join(map(self._delimiter.join, zip(*cells, strict=True))) + "\n").encode()

    def _cells(self, name: str, values: Sequence[object]) -> Sequence[str]:
        if name in self._documents:
            return self._quoted(_documents(name, values))
        written = forms(name, values)
        if _NUMBERS.issuperset(map(type, written)):
            return list(map(repr, written))
        return self._quoted([text if isinstance(text, str) else _text(text) for text in written])

    def _quoted(self, texts: Sequence[str | None]) -> Sequence[str]:
        """Cells of texts; None is an empty one."""
        if self._special.search("".join([text for text in texts if text])) is None:
            return ["" if text is None else text or '""' for text in texts]
        return ["" if text is None else self._cell(text) for text in texts]

    def _cell(self, text: str) -> str:
        if self._special.search(text) is None:
            return text or '""'
        return '"' + text.replace('"', '""') + '"'

    def _ndjson(self, values: Sequence[Sequence[object]]) -> bytes:
        columns = [self._members(name, column) for name, column in zip(self._columns, values, strict=True)]
        names = self._columns
        return b"".join(
            [
                orjson.dumps(dict(zip(names, row, strict=True)), option=orjson.OPT_APPEND_NEWLINE)
                for row in zip(*columns, strict=True)
            ]
        )

    def _members(self, name: str, values: Sequence[object]) -> Sequence[object]:
        if name in self._documents:
            return [None if text is None else orjson.Fragment(text) for text in _documents(name, values)]
        return forms(name, values)


def _documents(name: str, values: Sequence[object]) -> list[str | None]:
    if not all(value is None or isinstance(value, str) for value in values):
        raise TypeError(f"column {name!r} holds documents, whose values are given as JSON text")
    return [one_line(value) if isinstance(value, str) else None for value in values]


def _text(value: object) -> str | None:
    """What JSON has, other than text, as a CSV cell's text."""
    if value is None:
        return None
    if isinstance(value, bool):
        return _BOOLEANS[value]
    return json_text(value) if isinstance(value, list | dict) else repr(value)
