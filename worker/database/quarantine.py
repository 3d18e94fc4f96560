"""Refused rows: written in the chunk's own transaction, read by people.

Owns `heavylift_quarantine`. Refuses to judge rows: validation and the database did.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from worker.core.refused import RefusedRow
from worker.database.tables import QUARANTINE


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
