"""Runs that cannot begin here, shown in the ledger as waiting: one statement for all of them.

Owns the statement. Refuses to touch what is finished or paused, attempts, crashes and the fence: nothing was tried.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, text

from worker.database.claims import UNREADABLE, PutAside
from worker.database.column_types import Instant
from worker.database.sqlite.column_types import NOW
from worker.database.sqlite.enqueue import MOMENT, SENT, sent

# What came by arq's wire alone and never began is what the newest readable delivery says; a placeholder says nothing.
_SAYS_MORE = f"h.started_at IS NULL AND h.enqueued_by IS NULL AND excluded.job <> '{UNREADABLE}'"

_PUT_ASIDE = text(
    # A word that comes later than the next try is void: another worker may have begun the run by then.
    f"""
    INSERT INTO heavylift_runs AS h
        (id, job, queue, params, options, status, waiting_for, due_at, enqueued_ms, enqueued_at)
    SELECT id, job, queue, params, options, 'waiting', reason, :due_at, enqueued_ms, {MOMENT.format("enqueued_ms")}
    FROM (SELECT {SENT}, json_extract(value, '$.reason') AS reason FROM json_each(:sent))
    WHERE true
    ON CONFLICT (id) DO UPDATE SET
        status = 'waiting', waiting_for = excluded.waiting_for, due_at = excluded.due_at,
        job = CASE WHEN {_SAYS_MORE} THEN excluded.job ELSE h.job END,
        params = CASE WHEN {_SAYS_MORE} THEN excluded.params ELSE h.params END,
        options = CASE WHEN {_SAYS_MORE} THEN excluded.options ELSE h.options END,
        enqueued_ms = CASE WHEN {_SAYS_MORE} THEN excluded.enqueued_ms ELSE h.enqueued_ms END,
        enqueued_at = CASE WHEN {_SAYS_MORE} THEN excluded.enqueued_at ELSE h.enqueued_at END
    WHERE h.status IN ('queued', 'waiting', 'running') AND {NOW} < excluded.due_at
    RETURNING id
    """  # noqa: S608 - constant texts
).bindparams(bindparam("due_at", type_=Instant()))


def put_aside(connection: Connection, asides: Sequence[PutAside], due_at: datetime) -> set[str]:
    """Insert or update the runs; the ids of those that are waiting now, finished and paused ones not among them."""
    again = due_at.isoformat(timespec="seconds")
    reasons = [{"reason": f"{aside.reason}; tried again at {again}"} for aside in asides]
    rows = connection.execute(
        _PUT_ASIDE, {"sent": sent([aside.delivery for aside in asides], reasons), "due_at": due_at}
    )
    return set(rows.scalars())
