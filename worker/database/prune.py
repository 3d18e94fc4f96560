"""What the ledger may forget: refused rows after their time, then finished runs that have none left.

Owns the statements, a bounded page at a time, in the order of an index. Refuses audit trails: transfers and moves are
kept for ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, delete, exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.outcomes import Status
from worker.database import pages
from worker.database.tables import QUARANTINE, RUNS

PAGE_ROWS = 2_000
"""Rows of a page at most: each is named by its id in one statement."""

FINISHED = [status.value for status in Status if status.finished]


@dataclass(frozen=True, slots=True)
class OldRun:
    """A run that ended long ago."""

    run_id: str
    queue: str
    enqueued_at: datetime


async def old_refused_rows(connection: AsyncConnection, before: datetime, after_id: int, rows: int) -> list[int]:
    """The ids of refused rows that were put aside before a moment, in order, locked.

    Args:
        connection: in a transaction.
        before: aware.
        after_id: only rows after this one.
        rows: how many at most.
    """
    found = await connection.execute(
        select(QUARANTINE.c.id)
        .where(QUARANTINE.c.id > after_id, QUARANTINE.c.created_at < before)
        .order_by(QUARANTINE.c.id)
        .limit(rows)
        .with_for_update()
    )
    return list(found.scalars())


async def forget_refused_rows(connection: AsyncConnection, ids: Sequence[int]) -> int:
    """Delete refused rows; how many were there."""
    return (await connection.execute(delete(QUARANTINE).where(QUARANTINE.c.id.in_(ids)))).rowcount


async def old_runs(
    connection: AsyncConnection, before: datetime, after: tuple[datetime, str] | None, rows: int
) -> list[OldRun]:
    """Runs that ended before a moment and have no refused row left, in the order of their enqueueing, locked.

    Args:
        connection: in a transaction.
        before: aware.
        after: enqueue time and id of the last one looked at.
        rows: how many at most.
    """
    refused = exists().where(QUARANTINE.c.run_id == RUNS.c.id)
    old = and_(RUNS.c.status.in_(FINISHED), RUNS.c.finished_at < before, RUNS.c.enqueued_at < before, ~refused)
    if after is not None:
        old = and_(old, pages.after((RUNS.c.enqueued_at, RUNS.c.id), after))
    found = await connection.execute(
        select(RUNS.c.id, RUNS.c.queue, RUNS.c.enqueued_at)
        .where(old)
        .order_by(RUNS.c.enqueued_at, RUNS.c.id)
        .limit(rows)
        .with_for_update()
    )
    return [OldRun(*row) for row in found]


async def forget_runs(connection: AsyncConnection, run_ids: Sequence[str]) -> int:
    """Delete runs with their progress and attempts; how many were there."""
    return (await connection.execute(delete(RUNS).where(RUNS.c.id.in_(run_ids)))).rowcount
