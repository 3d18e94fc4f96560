"""Rows that a function was given and returned changed: compared, validated, and written back by their keys.

Owns what a function may return, and that only what it changed is written: a column that another session changed
meanwhile keeps that value unless the function changed it, too. Refuses to read rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final

from sqlalchemy import select

from worker import (
    Batch,
    GivenRows,
    Isolated,
    JobContext,
    RefusedRow,
    RegisteredTable,
    ResultError,
    RowUpdate,
    RowValidator,
    TableFacts,
    UpdateCounts,
    primary_walk,
    row_payload,
)

MOST_SHAPES: Final = 50
"""Statements that are kept prepared, one for each set of columns that came back changed."""

MOST_KEYS: Final = 1_000
"""Keys in one statement that locks rows: each value is a parameter."""


@dataclass(frozen=True, slots=True)
class _Writer:
    """What writes rows that changed in the same columns.

    Attributes:
        validator: of their values.
        update: the statement.
    """

    validator: RowValidator
    update: RowUpdate


class RowChanges:
    """What one run's processor changes.

    Args:
        ctx: the run.
        target: the table.
        facts: what the database says of it.
        processor: the function's name, for messages.
    """

    def __init__(self, ctx: JobContext, target: RegisteredTable, facts: TableFacts, processor: str) -> None:
        self._ctx = ctx
        self._target = target
        self._facts = facts
        self._place = f"Processor {processor!r}"
        self._walk = primary_walk(target.table, facts)
        self._key = tuple(str(column.name) for column in self._walk.key)
        self._names = tuple(str(column.name) for column in target.table.columns)
        self._writers: dict[tuple[str, ...], _Writer] = {}

    def given(self, rows: Sequence[tuple[object, ...]]) -> GivenRows:
        """Rows as the function gets them: all columns by name, to be read only."""
        # its documents are copies, so that one that was changed in its place is seen to differ
        return [
            MappingProxyType(dict(zip(self._names, [_copied(value) for value in row], strict=True))) for row in rows
        ]

    async def write(self, rows: Sequence[tuple[object, ...]], returned: object, *, locked: bool) -> None:
        """Write back what the function returned, and count it.

        Args:
            rows: the chunk's.
            returned: what the function made of them.
            locked: whether the chunk's rows are locked already.

        Raises:
            ResultError: it is not None and no rows of the chunk.
            NotAllowedError: the table may be read only.
        """
        shapes: dict[tuple[str, ...], list[tuple[object, ...]]] = {}
        for key, changed in self._changed(rows, returned):
            shapes.setdefault(tuple(changed), []).append((*key, *changed.values()))
        if not shapes:
            return
        self._ctx.tables.allowed(self._target.name, "update")
        if not locked:
            await self._lock([row[: len(self._key)] for alike in shapes.values() for row in alike])
        for columns, alike in shapes.items():
            await self._write_alike(columns, alike)

    def _changed(
        self, rows: Sequence[tuple[object, ...]], returned: object
    ) -> Iterator[tuple[tuple[object, ...], dict[str, object]]]:
        """Of each returned row that was changed its key, and the new values by column."""
        given = (dict(zip(self._names, row, strict=True)) for row in rows)
        before = {repr(self._key_of(row)): row for row in given}
        for row in self._rows(returned):
            key = self._key_of(row)
            known = before.pop(repr(key), None)
            if known is None:
                raise ResultError(
                    f"{self._place} returned a row with key {key!r}, which is none of the rows that it was given, or "
                    "was returned twice. Take the key's values from the row, as they are"
                )
            changed = {name: value for name, value in row.items() if not _same(known, name, value)}
            self._check_columns(changed)
            if changed:
                yield key, changed

    def _rows(self, returned: object) -> Iterator[Mapping[str, object]]:
        if returned is None:
            return
        if not isinstance(returned, Iterable) or isinstance(returned, str | bytes | Mapping):
            raise self._no_rows(returned)
        for row in returned:
            if not isinstance(row, Mapping) or not all(name in row for name in self._key):
                raise self._no_rows(row)
            yield row

    def _no_rows(self, found: object) -> ResultError:
        shown = ", ".join(f'"{name}": row["{name}"]' for name in self._key)
        return ResultError(
            f"{self._place} returned {found!r:.80}, which is no changed row: it returns None, or a list of mappings "
            f"with the primary key and what changed, for example [{{{shown}, ...}}]"
        )

    def _key_of(self, row: Mapping[str, object]) -> tuple[object, ...]:
        return tuple(row[name] for name in self._key)

    def _check_columns(self, changed: Mapping[str, object]) -> None:
        for name in changed:
            if name not in self._names:
                raise ResultError(
                    f"{self._place} returned column {name!r}, which table {self._target.name!r} does not have; it has: "
                    f"{', '.join(self._names)}"
                )
            if self._facts.column(name).generated:
                raise ResultError(
                    f"{self._place} changed column {name!r} of table {self._target.name!r}, which the database alone "
                    "writes. Leave it as it was given"
                )

    async def _lock(self, keys: Sequence[tuple[object, ...]]) -> None:
        """Lock rows that nothing has locked yet, all in key order, whichever columns of them change."""
        order = self._walk.row_order
        columns = zip(self._walk.key, zip(*keys, strict=True), strict=True)
        sent = [self._ctx.tools.encode(column, self._facts.column(column.name), values) for column, values in columns]
        rows = list(zip(*sent, strict=True))
        for first in range(0, len(rows), MOST_KEYS):
            these = select(*order.read()).where(order.among(rows[first : first + MOST_KEYS]))
            await self._ctx.tools.execute(these.order_by(*self._walk.key).with_for_update(key_share=True))

    async def _write_alike(self, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
        """Write rows that changed in the same columns; what does not fit or is refused is put aside."""
        writer, carried = self._writer(columns), (*self._key, *columns)
        judged = writer.validator.validate(Batch(rows, list(range(len(rows))), [], {}, last=False, fraction=None))
        found: Isolated[int, UpdateCounts] = await self._ctx.tools.isolate(
            range(len(judged.positions)), partial(self._apply, writer.update, judged.values)
        )
        refused = [RefusedRow(0, fault.reason, fault.payload) for fault in judged.faults]
        for one in found.refused:
            raw = rows[judged.positions[one.item]]
            refused.append(RefusedRow.by_database(0, row_payload(carried, raw, empty_is_text=False), one.error))
        await self._ctx.tools.quarantine(refused)
        self._ctx.progress.count(
            updated=sum(counts.updated for counts in found.results),
            unchanged=sum(counts.unchanged for counts in found.results),
            missing=sum(counts.missing for counts in found.results),
            quarantined=len(refused),
        )

    async def _apply(self, update: RowUpdate, values: list[list[object]], part: Sequence[int]) -> UpdateCounts:
        # neighbours, so that a slice has them without a copy of each value
        counts = await update.apply([column[part[0] : part[-1] + 1] for column in values])
        await self._ctx.tools.check_deferred(self._facts)
        return counts

    def _writer(self, columns: tuple[str, ...]) -> _Writer:
        if columns not in self._writers:
            if len(self._writers) == MOST_SHAPES:
                self._writers.clear()
            target, carried = self._target, (*self._key, *columns)
            validator = RowValidator(
                target.table,
                target.model,
                self._facts,
                source_columns=carried,
                key=self._key,
                empty_is_text=False,
                inserts=False,
            )
            update = self._ctx.tools.row_update(target.table, self._facts, columns=carried, key=self._key)
            self._writers[columns] = _Writer(validator, update)
        return self._writers[columns]


def _copied(value: object) -> object:
    return deepcopy(value) if isinstance(value, dict | list) else value


def _same(known: Mapping[str, object], name: str, value: object) -> bool:
    """Whether a value is the one that was given, to the type: true is not 1 to whoever reads a document."""
    if name not in known:
        return False
    before = known[name]
    if isinstance(value, dict | list):
        return repr(value) == repr(before)
    return value is before or (type(value) is type(before) and value == before)
