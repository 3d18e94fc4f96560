"""Rows that came with the request itself.

Owns their columns and the cursor over them. Their size is bounded by `worker.source.spec.check_inline`.
"""

from collections.abc import Mapping, Sequence
from typing import Self

from pydantic import ValidationError

from worker.core.errors import SourceError
from worker.source.batch import ABSENT, Batch
from worker.source.cursor import Count, SourceCursor


class _InlineCursor(SourceCursor):
    """How many rows were read."""

    row: Count

    @classmethod
    def parse(cls, cursor: dict[str, object], rows: int) -> Self:
        try:
            parsed = cls.model_validate(cursor)
        except ValidationError as error:
            raise SourceError(
                f"The saved cursor {cursor!r} is not one of inline rows, so this run cannot go on; start a new run"
            ) from error
        if parsed.row > rows:
            raise SourceError(
                f"The saved cursor stands after row {parsed.row:,} and the source has {rows:,} inline rows: it is "
                "another source than the run began with; start a new run"
            )
        return parsed


class InlineSource:
    """Inline rows, in order. Columns are all that any row has, in the order first seen. A `RowSource`.

    Raises:
        SourceError: the cursor is not one over these rows.
    """

    def __init__(self, rows: Sequence[Mapping[str, object]], cursor: dict[str, object] | None = None) -> None:
        self._rows = rows
        self._columns = tuple(dict.fromkeys(name for row in rows for name in row))
        self._next = 0 if cursor is None else _InlineCursor.parse(cursor, len(rows)).row

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the rows carry together."""
        return self._columns

    @property
    def empty_is_text(self) -> bool:
        """False: what a row lacks is lacking."""
        return False

    def read(self, size: int) -> Batch:
        """The next at most `size` rows; positions are 1-based indexes."""
        start, self._next = self._next, min(self._next + size, len(self._rows))
        return Batch(
            rows=[
                tuple([row.get(column, ABSENT) for column in self._columns]) for row in self._rows[start : self._next]
            ],
            positions=list(range(start + 1, self._next + 1)),
            faults=[],
            cursor=_InlineCursor(columns=list(self._columns), row=self._next).model_dump(),
            last=self._next == len(self._rows),
            fraction=self._next / len(self._rows) if self._rows else 1.0,
        )

    def close(self) -> None:
        """Nothing is held open."""
