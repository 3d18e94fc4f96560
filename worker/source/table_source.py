"""Rows of a registered table, such as one that a load was staged in: read by key, in short transactions of their own.

Owns the place in the table. Its end is frozen when reading starts: rows that are added behind it are not chased. The
table is to stay as it is meanwhile: of a row whose key changes nobody can say whether it was read.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVarTuple

from pydantic import ValidationError
from sqlalchemy import Row, Select
from sqlalchemy.types import TypeEngine

from worker.core.cursor import read_key, write_key
from worker.core.errors import SourceError
from worker.core.table_facts import TableFacts
from worker.declare.row_order import exact_type
from worker.declare.walk import Walk
from worker.source.batch import Batch
from worker.source.cursor import Count, SourceCursor
from worker.source.table_columns import ColumnReading, reading_of

Columns = TypeVarTuple("Columns")


class Fetch(Protocol):
    """Runs a query in a short transaction of its own, apart from the run's."""

    async def __call__(self, statement: Select[*Columns], /) -> Sequence[Row[*Columns]]:
        """The rows that it finds."""
        ...


WrittenKey = list[list[object]]
"""A key as `worker.core.cursor.write_key` writes it."""


class TableCursor(SourceCursor):
    """Where reading a table goes on.

    Attributes:
        table: its registered name.
        key: the columns that order it.
        after: the last key that was read; None at the beginning.
        until: the last key of the table when reading started; None for an empty table.
        read: how many rows were read.
    """

    table: str
    key: list[str]
    after: WrittenKey | None
    until: WrittenKey | None
    read: Count


class TableSource:
    """The rows of one table in the order of its key. A `Source`.

    Args:
        fetch: runs its queries.
        walk: the table and its order.
        readings: of the columns that the rows are made of.
        place: where to go on.
        estimate: about how many rows the table has; None where nobody knows.
    """

    def __init__(
        self, fetch: Fetch, walk: Walk, readings: Sequence[ColumnReading], place: TableCursor, estimate: int | None
    ) -> None:
        self._fetch = fetch
        self._walk = walk
        self._readings = readings
        self._converts = [(at, reading.convert) for at, reading in enumerate(readings) if reading.convert is not None]
        self._place = place
        self._estimate = estimate

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the table's columns that are wanted, in its order."""
        return tuple(self._place.columns)

    @property
    def empty_is_text(self) -> bool:
        """False: a table tells NULL from an empty text."""
        return False

    async def read(self, size: int) -> Batch:
        """The next at most `size` rows; positions are 1-based indexes in key order."""
        place = self._place
        if place.until is None:
            return self._batch([], last=True)
        after, until = None if place.after is None else read_key(place.after), read_key(place.until)
        chosen = self._walk.keys().add_columns(*(reading.expression for reading in self._readings))
        rows = await self._fetch(chosen.where(self._walk.between(after, until)).limit(size))
        last, width = len(rows) < size, len(self._walk.key)
        if rows:
            reached = write_key(tuple(rows[-1][:width]))
            last = last or reached == place.until
            self._place = place.model_copy(update={"after": reached, "read": place.read + len(rows)})
        return self._batch([tuple(row[width:]) for row in rows], last=last)

    async def settle(self, batch: Batch) -> Batch:
        """The batch: how far the table was read is in the cursor, and nowhere else."""
        return batch

    async def close(self) -> None:
        """Nothing is held open."""

    def _batch(self, rows: list[tuple[object, ...]], *, last: bool) -> Batch:
        read = self._place.read
        return Batch(
            rows=[self._converted(row) for row in rows] if self._converts else rows,
            positions=list(range(read - len(rows) + 1, read + 1)),
            faults=[],
            cursor=self._place.model_dump(),
            last=last,
            fraction=1.0 if last else _fraction(read, self._estimate),
        )

    def _converted(self, row: tuple[object, ...]) -> tuple[object, ...]:
        values = list(row)
        for at, convert in self._converts:
            if values[at] is not None:
                values[at] = convert(values[at])
        return tuple(values)


async def open_table(
    fetch: Fetch,
    walk: Walk,
    facts: TableFacts,
    wanted: Mapping[str, TypeEngine[object] | None],
    cursor: dict[str, object] | None = None,
) -> TableSource:
    """Open a table as a source of rows.

    Args:
        fetch: runs its queries.
        walk: the table by its primary key.
        facts: what the database says of it.
        wanted: the columns that the rows are for, by name, with their types where they are known.
        cursor: of the last batch that was dealt with; None starts from the beginning.

    Raises:
        SourceError: the table has none of the columns, or the cursor is not one over it.
    """
    place = await _start(fetch, walk, wanted) if cursor is None else _parse(cursor, walk)
    columns = walk.table.columns
    readings = [reading_of(columns[name], exact_type(facts.column(name)), wanted.get(name)) for name in place.columns]
    return TableSource(fetch, walk, readings, place, facts.estimated_rows)


async def _start(fetch: Fetch, walk: Walk, wanted: Mapping[str, TypeEngine[object] | None]) -> TableCursor:
    names = [column.name for column in walk.table.columns if column.name in wanted]
    if not names:
        raise SourceError(
            f"Table {walk.table.fullname!r} has none of the columns that are wanted: {', '.join(wanted)}. It has: "
            f"{', '.join(walk.table.columns.keys())}. Name its columns as those that their values are for"
        )
    found = await fetch(walk.last())
    return TableCursor(
        columns=names,
        table=walk.table.fullname,
        key=_key_names(walk),
        after=None,
        until=write_key(tuple(found[0])) if found else None,
        read=0,
    )


def _parse(cursor: dict[str, object], walk: Walk) -> TableCursor:
    try:
        place = TableCursor.model_validate(cursor)
    except ValidationError as error:
        raise SourceError(
            f"The saved cursor {cursor!r} is not one of a table, so this run cannot go on; start a new run"
        ) from error
    lost = [name for name in place.columns if name not in walk.table.columns]
    if place.table != walk.table.fullname or place.key != _key_names(walk) or lost:
        raise SourceError(
            f"The run began to read table {place.table!r} by ({', '.join(place.key)}), its columns "
            f"{', '.join(place.columns)}; table {walk.table.fullname!r} is now to be read by "
            f"({', '.join(_key_names(walk))}) and has {', '.join(walk.table.columns.keys())}. Start a new run"
        )
    return place


def _key_names(walk: Walk) -> list[str]:
    return [column.name for column in walk.key]


def _fraction(read: int, estimate: int | None) -> float | None:
    # the database's estimate may be old: what it did not foresee is of unknown size
    return read / estimate if estimate and 0 < read < estimate else None
