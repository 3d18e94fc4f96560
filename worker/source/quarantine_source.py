"""The refused rows of an earlier run, as the source of a run that tries them again: each is tried once, whoever asks.

Owns reading them as they were read the first time, and marking them in the transaction of the chunk that deals with
them: two replays at once share them. A row that was never read as one cannot be tried, and is refused again.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError
from sqlalchemy import CursorResult
from sqlalchemy.sql.base import Executable

from worker.core.errors import RequestError, SourceError, UnknownRunError
from worker.database.quarantine import left_to_replay, lock_left, mark_replayed, next_left, source_of_run
from worker.source.batch import ABSENT, Batch, RowFault
from worker.source.cursor import Count, SourceCursor
from worker.source.raw_values import read_raw
from worker.source.table_source import Fetch

Execute = Callable[[Executable], Awaitable[CursorResult[tuple[object, ...]]]]
"""Runs a statement in the chunk's transaction."""

_NEVER_READ: Final = (
    "could not be read when it was met, so it cannot be tried again: mend it where it came from, and enqueue that"
)


class QuarantineCursor(SourceCursor):
    """Where replaying goes on.

    Attributes:
        run: the run whose rows were refused.
        after: the id of the last row that was read; 0 at the beginning.
        until: the id of the last row when replaying started.
        read: how many rows were read.
        total: how many were left when replaying started.
    """

    run: str
    after: Count
    until: Count
    read: Count
    total: Count


@dataclass(frozen=True, slots=True)
class QuarantineBatch(Batch):
    """A batch of refused rows; `ids` and `fault_ids` are theirs in the quarantine, aligned with `rows` and `faults`."""

    ids: list[int]
    fault_ids: list[int]


class QuarantineSource:
    """The refused rows of one run, in the order in which they were met. A `Source`.

    Args:
        fetch: runs its queries.
        execute: runs its marks, in the chunk's transaction.
        place: where to go on.
    """

    def __init__(self, fetch: Fetch, execute: Execute, place: QuarantineCursor) -> None:
        self._fetch = fetch
        self._execute = execute
        self._place = place
        self._known = frozenset(place.columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the first run's source."""
        return tuple(self._place.columns)

    @property
    def empty_is_text(self) -> bool:
        """As it was in the first run's source."""
        return self._place.empty_is_text

    async def read(self, size: int) -> QuarantineBatch:
        """The next at most `size` rows; positions are those that the first run's source gave them."""
        place = self._place
        found = await self._fetch(next_left(place.run, place.after, place.until, size))
        last = len(found) < size or found[-1].id == place.until
        after = found[-1].id if found else place.after
        self._place = place = place.model_copy(update={"after": after, "read": place.read + len(found)})
        batch = QuarantineBatch([], [], [], place.model_dump(), last, _fraction(place, last=last), [], [])
        for row in found:
            values = self._row(row.payload)
            if values is None:
                batch.faults.append(RowFault(row.position, _NEVER_READ, row.payload))
                batch.fault_ids.append(row.id)
            else:
                batch.rows.append(values)
                batch.positions.append(row.position)
                batch.ids.append(row.id)
        return batch

    async def settle(self, batch: Batch) -> Batch:
        """Mark a batch's rows as replayed, in the chunk's transaction; those that another run has marked fall out."""
        if not isinstance(batch, QuarantineBatch) or not batch.read:
            return batch
        ids = sorted((*batch.ids, *batch.fault_ids))
        span = (self._place.run, ids[0], ids[-1])
        left: set[object] = {row[0] for row in await self._execute(lock_left(*span))}
        await self._execute(mark_replayed(*span))
        return batch if len(left) == len(ids) else _narrowed(batch, left)

    async def close(self) -> None:
        """Nothing is held open."""

    def _row(self, payload: Mapping[str, object]) -> tuple[object, ...] | None:
        """A row as the first run's source gave it; None where that could not make one of what it found."""
        if not payload.keys() <= self._known:
            return None
        absent = {name for name, value in payload.items() if value is None} if self.empty_is_text else set()
        carried = payload.keys() - absent
        return tuple([read_raw(payload[name]) if name in carried else ABSENT for name in self._place.columns])


async def open_quarantine(
    fetch: Fetch, execute: Execute, job: str, run_id: str, cursor: dict[str, object] | None
) -> QuarantineSource:
    """Open a run's refused rows as a source.

    Args:
        fetch: runs its queries.
        execute: runs its marks, in the chunk's transaction.
        job: of the run that is to try them again.
        run_id: the run that refused them.
        cursor: of the last batch that was dealt with; None starts from the beginning.

    Raises:
        UnknownRunError: there is no such run.
        RequestError: it is one of another job, or its rows did not come from a source.
        SourceError: the cursor is not one over them.
    """
    place = await _start(fetch, job, run_id) if cursor is None else _parse(cursor, run_id)
    return QuarantineSource(fetch, execute, place)


async def _start(fetch: Fetch, job: str, run_id: str) -> QuarantineCursor:
    found = await fetch(source_of_run(run_id))
    if not found:
        raise UnknownRunError(run_id)
    (first,) = found
    if first.job != job:
        raise RequestError(
            f"Run {run_id!r} is one of job {first.job!r}, and its refused rows are for that job alone, not for "
            f"{job!r}. Try them again with: heavylift quarantine {run_id} --replay"
        )
    ((until, total),) = await fetch(left_to_replay(run_id))
    shape = _shape(first.cursor, run_id)
    return QuarantineCursor(**shape.model_dump(), run=run_id, after=0, until=until or 0, read=0, total=total)


def _shape(cursor: dict[str, object] | None, run_id: str) -> SourceCursor:
    try:
        # with every chunk the run kept what its source carried and how; rows were refused, so there was a chunk
        return SourceCursor.model_validate(cursor, extra="ignore")
    except ValidationError as error:
        raise RequestError(
            f"The rows of run {run_id!r} did not come from a source, so they cannot be read again. Remove the cause "
            "and run its job again"
        ) from error


def _parse(cursor: dict[str, object], run_id: str) -> QuarantineCursor:
    try:
        place = QuarantineCursor.model_validate(cursor)
    except ValidationError as error:
        raise SourceError(
            f"The saved cursor {cursor!r} is not one of refused rows, so this run cannot go on; start a new run"
        ) from error
    if place.run != run_id:
        raise SourceError(
            f"The saved cursor is one of run {place.run!r}'s refused rows, not of {run_id!r}'s; start a new run"
        )
    return place


def _fraction(place: QuarantineCursor, *, last: bool) -> float | None:
    return 1.0 if last else place.read / place.total if 0 < place.read < place.total else None


def _narrowed(batch: QuarantineBatch, left: set[object]) -> QuarantineBatch:
    kept = [at for at, row_id in enumerate(batch.ids) if row_id in left]
    faults = [at for at, row_id in enumerate(batch.fault_ids) if row_id in left]
    return QuarantineBatch(
        rows=[batch.rows[at] for at in kept],
        positions=[batch.positions[at] for at in kept],
        faults=[batch.faults[at] for at in faults],
        cursor=batch.cursor,
        last=batch.last,
        fraction=batch.fraction,
        ids=[batch.ids[at] for at in kept],
        fault_ids=[batch.fault_ids[at] for at in faults],
    )
