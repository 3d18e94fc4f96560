"""Runs that cannot begin here, shown in the ledger as waiting: one statement for all of them.

Owns the statement. Refuses to touch what is finished or paused, attempts, crashes and the fence: nothing was tried.
"""

from collections.abc import Sequence
from datetime import datetime

import orjson
from sqlalchemy import Connection, text

from worker.database.claims import UNREADABLE, PutAside

# What came by arq's wire alone and never began is what the newest readable delivery says; a placeholder says nothing.
_SAYS_MORE = f"h.started_at IS NULL AND h.enqueued_by IS NULL AND excluded.job <> '{UNREADABLE}'"

_PUT_ASIDE = text(
    # Rows are locked in the order of their ids, as claims lock them. A word that comes later than the next try is void:
    # another worker may have begun the run by then.
    f"""
    INSERT INTO heavylift_runs AS h
        (id, job, queue, params, options, status, waiting_for, due_at, enqueued_ms, enqueued_at)
    SELECT i.id, i.job, i.queue, i.params, i.options, 'waiting', i.reason, CAST(:due_at AS timestamptz),
           i.enqueued_ms, to_timestamp(i.enqueued_ms / 1000.0)
    FROM unnest(
        CAST(:ids AS text[]), CAST(:jobs AS text[]), CAST(:queues AS text[]), CAST(:params AS json[]),
        CAST(:options AS json[]), CAST(:enqueued AS bigint[]), CAST(:reasons AS text[])
    ) AS i (id, job, queue, params, options, enqueued_ms, reason)
    ORDER BY i.id COLLATE "C"
    ON CONFLICT (id) DO UPDATE SET
        status = 'waiting', waiting_for = excluded.waiting_for, due_at = excluded.due_at,
        job = CASE WHEN {_SAYS_MORE} THEN excluded.job ELSE h.job END,
        params = CASE WHEN {_SAYS_MORE} THEN excluded.params ELSE h.params END,
        options = CASE WHEN {_SAYS_MORE} THEN excluded.options ELSE h.options END,
        enqueued_ms = CASE WHEN {_SAYS_MORE} THEN excluded.enqueued_ms ELSE h.enqueued_ms END,
        enqueued_at = CASE WHEN {_SAYS_MORE} THEN excluded.enqueued_at ELSE h.enqueued_at END
    WHERE h.status IN ('queued', 'waiting', 'running') AND now() < excluded.due_at
    RETURNING id
    """  # noqa: S608 - constant texts
)


def put_aside(connection: Connection, asides: Sequence[PutAside], due_at: datetime) -> set[str]:
    """Insert or update the runs; the ids of those that are waiting now, finished and paused ones not among them."""
    deliveries = [aside.delivery for aside in asides]
    again = due_at.isoformat(timespec="seconds")
    rows = connection.execute(
        _PUT_ASIDE,
        {
            "ids": [delivery.run_id for delivery in deliveries],
            "jobs": [delivery.job for delivery in deliveries],
            "queues": [delivery.queue for delivery in deliveries],
            "params": [orjson.dumps(delivery.params).decode() for delivery in deliveries],
            "options": [orjson.dumps(delivery.options).decode() for delivery in deliveries],
            "enqueued": [delivery.enqueued_ms for delivery in deliveries],
            "reasons": [f"{aside.reason}; tried again at {again}" for aside in asides],
            "due_at": due_at,
        },
    )
    return set(rows.scalars())
