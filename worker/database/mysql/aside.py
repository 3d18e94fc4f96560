"""Runs that cannot begin here, shown in the ledger as waiting: a statement for all of them, and a look at what it did.

Owns the statements. Refuses to touch what is finished or paused, attempts, crashes and the fence: nothing was tried.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, select, text

from worker.core.outcomes import Status
from worker.database.claims import UNREADABLE, PutAside
from worker.database.column_types import Instant
from worker.database.mysql.enqueue import ENQUEUED_AT, SENT, in_order, sent
from worker.database.tables import RUNS

# A word that comes later than the next try is void: another worker may have begun the run by then.
_SHOWN = "heavylift_runs.status IN ('queued', 'waiting', 'running') AND utc_timestamp(6) < :due_at"

# What came by arq's wire alone and never began is what the newest readable delivery says; a placeholder says nothing.
_SAYS_MORE = (
    f"{_SHOWN} AND heavylift_runs.started_at IS NULL AND heavylift_runs.enqueued_by IS NULL AND i.job <> '{UNREADABLE}'"
)

_PUT_ASIDE = text(
    # Rows are locked in the order of their ids, as claims lock them. Each assignment sees what those above it did, so
    # the status comes last.
    f"""
    INSERT INTO heavylift_runs
        (id, job, queue, params, options, status, waiting_for, due_at, enqueued_ms, enqueued_at)
    SELECT i.id, i.job, i.queue, i.params, i.options, 'waiting', i.reason, :due_at, i.enqueued_ms, {ENQUEUED_AT}
    FROM {SENT}
    ORDER BY i.place
    ON DUPLICATE KEY UPDATE
        job = IF({_SAYS_MORE}, i.job, heavylift_runs.job),
        params = IF({_SAYS_MORE}, i.params, heavylift_runs.params),
        options = IF({_SAYS_MORE}, i.options, heavylift_runs.options),
        enqueued_ms = IF({_SAYS_MORE}, i.enqueued_ms, heavylift_runs.enqueued_ms),
        enqueued_at = IF({_SAYS_MORE}, {ENQUEUED_AT}, heavylift_runs.enqueued_at),
        waiting_for = IF({_SHOWN}, i.reason, heavylift_runs.waiting_for),
        due_at = IF({_SHOWN}, :due_at, heavylift_runs.due_at),
        status = IF({_SHOWN}, 'waiting', heavylift_runs.status)
    """  # noqa: S608 - constant texts
).bindparams(bindparam("due_at", type_=Instant()))


def put_aside(connection: Connection, asides: Sequence[PutAside], due_at: datetime) -> set[str]:
    """Insert or update the runs; the ids of those that are waiting now, finished and paused ones not among them."""
    reasons = {aside.delivery.run_id: aside.reason for aside in asides}
    deliveries = in_order([aside.delivery for aside in asides])
    again = due_at.isoformat(timespec="seconds")
    more: list[dict[str, object]] = [
        {"reason": f"{reasons[delivery.run_id]}; tried again at {again}"} for delivery in deliveries
    ]
    connection.execute(_PUT_ASIDE, {"sent": sent(deliveries, more), "due_at": due_at})
    shown = (RUNS.c.id.in_(reasons), RUNS.c.status == Status.WAITING.value, RUNS.c.due_at == due_at)
    return set(connection.execute(select(RUNS.c.id).where(*shown)).scalars())
