"""Runs written down before any queue knows them: one statement for all of them.

Owns the statement, and how deliveries travel: as one JSON text. What the ledger knows already stays as it is.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import orjson
from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.database.claims import Delivery, Terms
from worker.database.column_types import Instant

MOMENT: Final = "strftime('%Y-%m-%d %H:%M:%f000', {} / 1000.0, 'unixepoch')"
"""A moment in milliseconds as the text of an `Instant`."""

SENT: Final = ", ".join(
    f"json_extract(value, '$.{name}') AS {name}" for name in ("id", "job", "queue", "params", "options", "enqueued_ms")
)
"""The columns of deliveries that came as a parameter of `json_each`."""

_ENQUEUE = text(
    # WHERE: without one the parser takes ON for a join's
    f"""
    INSERT INTO heavylift_runs
        (id, job, queue, params, options, status, waiting_for, due_at, enqueued_ms, enqueued_at, enqueued_by)
    SELECT id, job, queue, params, options, :status, :waiting_for, :due_at, enqueued_ms,
           {MOMENT.format("enqueued_ms")}, :enqueued_by
    FROM (SELECT {SENT} FROM json_each(:sent))
    WHERE true
    ON CONFLICT (id) DO NOTHING
    RETURNING id
    """  # noqa: S608 - constant column lists
).bindparams(bindparam("due_at", type_=Instant()))


def sent(deliveries: Sequence[Delivery], more: Sequence[Mapping[str, object]] | None = None) -> str:
    """Deliveries as the one JSON text that `SENT` reads.

    Args:
        deliveries: what they are.
        more: what else to say of each, in the same order.
    """
    return orjson.dumps(
        [
            {
                "id": delivery.run_id,
                "job": delivery.job,
                "queue": delivery.queue,
                # texts within the text: what is stored is what was sent, not what SQLite makes of it
                "params": orjson.dumps(delivery.params).decode(),
                "options": orjson.dumps(delivery.options).decode(),
                "enqueued_ms": delivery.enqueued_ms,
                **(more[place] if more else {}),
            }
            for place, delivery in enumerate(deliveries)
        ]
    ).decode()


async def enqueue(connection: AsyncConnection, deliveries: Sequence[Delivery], terms: Terms) -> set[str]:
    """Insert those of the runs whose ids are new; these ids."""
    rows = await connection.execute(
        _ENQUEUE,
        {
            "sent": sent(deliveries),
            "status": terms.status.value,
            "waiting_for": terms.waiting_for,
            "due_at": terms.due_at,
            "enqueued_by": terms.enqueued_by,
        },
    )
    return set(rows.scalars())
