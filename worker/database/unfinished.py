"""The runs of one queue that are not over, as the ledger knows them: what Redis must have, and gets back if it lost it.

Owns the reads, in bounded memory: a page is of ids alone, and parameters, which may be large, are read of single runs
that are asked for, some at a time. Refuses locks: whatever is read may have ended since.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import CompoundSelect, Row, Select, Text, cast, func, literal, select, union_all

from worker.core.outcomes import Status
from worker.core.settings import Settings
from worker.database import pages
from worker.database.claims import Delivery
from worker.database.engine import Database
from worker.database.session import fetch
from worker.database.tables import RUNS

PAGE_ROWS: Final = 500
"""Runs of a page."""

MOST_CHARACTERS: Final = 2_000_000
"""Of parameters, as JSON, that are read at once; a run with more is read alone."""

UNFINISHED: Final = [status.value for status in Status if not status.finished]

_ORDER: Final = (RUNS.c.enqueued_at, RUNS.c.id)
_SAID: Final = (
    *(RUNS.c[name] for name in ("id", "job", "queue", "params", "options", "enqueued_ms")),
    *(RUNS.c[name] for name in ("status", "due_at", "enqueued_by")),
)


@dataclass(frozen=True, slots=True)
class Known:
    """A run as Redis may get it back.

    Attributes:
        delivery: as its client asked for it.
        status: where it stands.
        due_at: when a waiting one is due; None where some worker holds it meanwhile.
        by_wire: whether it came by arq's wire alone, from a client that may know nothing but arq.
    """

    delivery: Delivery
    status: Status
    due_at: datetime | None
    by_wire: bool


async def unfinished_ids(database: Database, settings: Settings, queue: str) -> AsyncIterator[list[str]]:
    """The ids of a queue's runs that are not over, oldest first, a page at a time.

    Args:
        database: the ledger's.
        settings: whose timeouts hold.
        queue: the queue's name.
    """
    rows = await fetch(database, settings, _page(queue, None))
    while rows:
        yield [row.id for row in rows]
        rows = await fetch(database, settings, _page(queue, rows[-1]))


async def read_unfinished(
    database: Database, settings: Settings, run_ids: Collection[str]
) -> AsyncIterator[list[Known]]:
    """Those of some runs that are not over, as the ledger has them now, some at a time.

    Args:
        database: the ledger's.
        settings: whose timeouts hold.
        run_ids: at most a page of them.
    """
    left = sorted(run_ids, key=str.encode)
    while left and (rows := await fetch(database, settings, _some_of(left))):
        yield [_known(row) for row in rows]
        left = [run_id for run_id in left if run_id.encode() > rows[-1].id.encode()]


async def read_known(database: Database, settings: Settings, run_id: str) -> Known | None:
    """One run, over or not; None where the ledger does not know it."""
    rows = await fetch(database, settings, select(*_SAID).where(RUNS.c.id == run_id))
    return _known(rows[0]) if rows else None


def _page(queue: str, after: Row[datetime, str] | tuple[datetime, str] | None) -> Select[datetime, str]:
    # Each status by itself is a short walk along the index of status and time; asked for together they would be all
    # read and sorted for each page. The values are in the text, so that each plan knows them.
    each = union_all(*(select(_of_status(queue, status, after).subquery()) for status in UNFINISHED))
    return _first(each)


def _of_status(
    queue: str, status: str, after: Row[datetime, str] | tuple[datetime, str] | None
) -> Select[datetime, str]:
    found = select(*_ORDER).where(
        RUNS.c.status == literal(status, RUNS.c.status.type, literal_execute=True), RUNS.c.queue == queue
    )
    if after is not None:
        found = found.where(pages.after(_ORDER, after))
    return found.order_by(*_ORDER).limit(PAGE_ROWS)


def _first(each: CompoundSelect[datetime, str]) -> Select[datetime, str]:
    found = each.subquery()
    return select(found.c.enqueued_at, found.c.id).order_by(found.c.enqueued_at, found.c.id).limit(PAGE_ROWS)


def _some_of(run_ids: Sequence[str]) -> "Select[*tuple[object, ...]]":
    size = func.length(cast(RUNS.c.params, Text))
    before = func.coalesce(func.sum(size).over(order_by=RUNS.c.id, rows=(None, -1)), 0)
    found = (
        select(*_SAID, before.label("before")).where(RUNS.c.id.in_(run_ids), RUNS.c.status.in_(UNFINISHED)).subquery()
    )
    return (
        select(*(found.c[column.name] for column in _SAID)).where(found.c.before < MOST_CHARACTERS).order_by(found.c.id)
    )


def _known(row: "Row[*tuple[object, ...]]") -> Known:
    delivery = Delivery(row.id, row.job, row.params, row.options, row.queue, row.enqueued_ms)
    return Known(delivery, Status(row.status), row.due_at, by_wire=row.enqueued_by is None)
