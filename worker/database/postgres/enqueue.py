"""Runs written down before any queue knows them: one statement for all of them.

Owns the statement. What the ledger knows already stays as it is.
"""

from collections.abc import Sequence

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.database.claims import Delivery, Terms

_ENQUEUE = text(
    # in one order everywhere: two clients that enqueue the same ids wait for each other instead of dead-locking
    """
    INSERT INTO heavylift_runs
        (id, job, queue, params, options, status, waiting_for, due_at, enqueued_ms, enqueued_at, enqueued_by)
    SELECT i.id, i.job, i.queue, i.params, i.options, CAST(:status AS varchar), CAST(:waiting_for AS text),
           CAST(:due_at AS timestamptz), i.enqueued_ms, to_timestamp(i.enqueued_ms / 1000.0),
           CAST(:enqueued_by AS varchar)
    FROM unnest(
        CAST(:ids AS text[]), CAST(:jobs AS text[]), CAST(:queues AS text[]), CAST(:params AS json[]),
        CAST(:options AS json[]), CAST(:enqueued AS bigint[])
    ) AS i (id, job, queue, params, options, enqueued_ms)
    ORDER BY i.id COLLATE "C"
    ON CONFLICT (id) DO NOTHING
    RETURNING id
    """
)


async def enqueue(connection: AsyncConnection, deliveries: Sequence[Delivery], terms: Terms) -> set[str]:
    """Insert those of the runs whose ids are new; these ids."""
    rows = await connection.execute(
        _ENQUEUE,
        {
            "ids": [delivery.run_id for delivery in deliveries],
            "jobs": [delivery.job for delivery in deliveries],
            "queues": [delivery.queue for delivery in deliveries],
            "params": [orjson.dumps(delivery.params).decode() for delivery in deliveries],
            "options": [orjson.dumps(delivery.options).decode() for delivery in deliveries],
            "enqueued": [delivery.enqueued_ms for delivery in deliveries],
            "status": terms.status.value,
            "waiting_for": terms.waiting_for,
            "due_at": terms.due_at,
            "enqueued_by": terms.enqueued_by,
        },
    )
    return set(rows.scalars())
