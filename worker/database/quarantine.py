"""Refused rows: written in the chunk's own transaction, read by people, and by the run that tries them again.

Owns `heavylift_quarantine`. Refuses to judge rows: validation and the database did.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, Update, and_, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from worker.core.refused import RefusedRow
from worker.database.column_types import utc_now
from worker.database.tables import PROGRESS, QUARANTINE, RUNS


@dataclass(frozen=True, slots=True)
class QuarantinedRow(RefusedRow):
    """A refused row as the ledger has it."""

    id: int = 0
    chunk: int = 0
    created_at: datetime | None = None
    replayed_at: datetime | None = None


async def put_aside(session: AsyncSession, run_id: str, chunk: int, rows: Sequence[RefusedRow]) -> None:
    """Write refused rows down, in the session's open transaction.

    Args:
        session: the run's.
        run_id: the run.
        chunk: the number of the chunk that met them.
        rows: none is fine.
    """
    if not rows:
        return
    await (await session.connection()).execute(
        insert(QUARANTINE),
        [
            {
                "run_id": run_id,
                "chunk": chunk,
                "position": row.position,
                "reason": row.reason,
                "sqlstate": row.sqlstate,
                "constraint_name": row.constraint,
                "payload": row.payload,
            }
            for row in rows
        ],
    )


async def read_quarantine(
    connection: AsyncConnection, run_id: str, *, after_id: int = 0, limit: int = 100
) -> list[QuarantinedRow]:
    """Refused rows of a run, in the order in which they were met.

    Args:
        connection: any.
        run_id: the run.
        after_id: only rows after this one; the last row's `id` to read on.
        limit: how many at most.
    """
    table = QUARANTINE
    found = await connection.execute(
        select(table).where(table.c.run_id == run_id, table.c.id > after_id).order_by(table.c.id).limit(limit)
    )
    return [
        QuarantinedRow(
            row.position,
            row.reason,
            row.payload,
            row.sqlstate,
            row.constraint_name,
            row.id,
            row.chunk,
            row.created_at,
            row.replayed_at,
        )
        for row in found
    ]


async def read_replayable(connection: AsyncConnection, run_id: str) -> tuple[dict[str, object], int]:
    """The options of a run, and how many of its refused rows are left to replay."""
    options = (await connection.execute(select(RUNS.c.options).where(RUNS.c.id == run_id))).scalar_one()
    _, left = (await connection.execute(left_to_replay(run_id))).one()
    return options, left


def source_of_run(run_id: str) -> Select[str, dict[str, object] | None]:
    """A statement: the job of a run, and the cursor of its last chunk."""
    joined = RUNS.outerjoin(PROGRESS, PROGRESS.c.run_id == RUNS.c.id)
    return select(RUNS.c.job, PROGRESS.c.cursor).select_from(joined).where(RUNS.c.id == run_id)


def left_to_replay(run_id: str) -> Select[int | None, int]:
    """A statement: the id of the last refused row of a run that was not replayed, and how many there are."""
    return select(func.max(QUARANTINE.c.id), func.count()).where(_left(run_id))


def next_left(run_id: str, after: int, until: int, rows: int) -> Select[int, int, dict[str, object]]:
    """A statement: the next refused rows of a run that were not replayed, in the order in which they were met."""
    table = QUARANTINE
    chosen = select(table.c.id, table.c.position, table.c.payload)
    return chosen.where(_left(run_id), table.c.id > after, table.c.id <= until).order_by(table.c.id).limit(rows)


def lock_left(run_id: str, first: int, last: int) -> Select[int]:
    """A statement: the ids of the rows between two that were not replayed, locked, so that nobody else replays them."""
    inside = QUARANTINE.c.id.between(first, last)
    return select(QUARANTINE.c.id).where(_left(run_id), inside).order_by(QUARANTINE.c.id).with_for_update()


def mark_replayed(run_id: str, first: int, last: int) -> Update:
    """A statement: mark the rows between two as replayed."""
    inside = QUARANTINE.c.id.between(first, last)
    return update(QUARANTINE).where(_left(run_id), inside).values(replayed_at=utc_now())


def _left(run_id: str) -> ColumnElement[bool]:
    return and_(QUARANTINE.c.run_id == run_id, QUARANTINE.c.replayed_at.is_(None))
