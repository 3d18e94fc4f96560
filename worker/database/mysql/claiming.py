"""Claims on MariaDB and MySQL: a few statements for all runs that are claimed at once, and no circle of those who wait.

Row locks are taken progress before run, each in the order of the ids. A run that was never claimed has no progress
whose lock could come first: who had to wait for another's first claim begins anew with it.
"""

from collections.abc import Sequence
from typing import Final
from uuid import uuid4

import orjson
from sqlalchemy import Connection, select, text, update

from worker.core.outcomes import Status
from worker.database.claims import Claim, Delivery
from worker.database.column_types import utc_now
from worker.database.endings import read_claim
from worker.database.mysql.enqueue import ENQUEUED_AT, SENT, TEXT, in_order, sent
from worker.database.tables import PROGRESS, RUNS

CLAIM_COLUMNS: Final = (
    *(RUNS.c[name] for name in ("id", "job", "params", "options", "status", "enqueued_ms", "enqueued_by", "attempts")),
    *(RUNS.c[name] for name in ("crashes", "started_at", "result", "error")),
    *(PROGRESS.c[name] for name in ("fence", "token", "chunk", "cursor", "done", "total", "counters", "chunk_rows")),
    *(PROGRESS.c[name] for name in ("failures", "crash_streak", "wanted")),
)
"""What a claim says of a run and of its progress."""

_FRESH = (
    "heavylift_runs.started_at IS NULL AND heavylift_runs.enqueued_by IS NULL "
    "AND heavylift_runs.status IN ('queued', 'waiting')"
)

# A run whose progress is not locked is claimed where nobody has ever begun it.
_CLAIMED_NOW = (
    "heavylift_runs.status IN ('queued', 'waiting', 'running') "
    "AND (i.open IS NOT NULL OR heavylift_runs.started_at IS NULL)"
)

_LOCK = (
    # by the key even where the table is small: a scan would wait for rows that nobody asked for
    select(PROGRESS.c.run_id, PROGRESS.c.open)
    .with_hint(PROGRESS, "FORCE INDEX (PRIMARY)")
    .order_by(PROGRESS.c.run_id)
    .with_for_update()
)

_CLAIM_RUNS = text(
    # A finished or paused run is found, not claimed: its row stays as it is and it gets no fence. A claim that finds
    # the one before it open follows a crash, whatever the status: a held run is `waiting`. A run that came by arq's
    # wire alone and that nobody could start so far is what this delivery, now read and bound, says that it is. Each
    # assignment sees what those above it did, so what others ask for comes last.
    f"""
    INSERT INTO heavylift_runs
        (id, job, queue, params, options, status, enqueued_ms, enqueued_at, started_at, worker)
    SELECT i.id, i.job, i.queue, i.params, i.options, 'running', i.enqueued_ms, {ENQUEUED_AT}, utc_timestamp(6), :worker
    FROM {SENT}
    ORDER BY i.place
    ON DUPLICATE KEY UPDATE
        job = IF({_FRESH}, i.job, heavylift_runs.job),
        params = IF({_FRESH}, i.params, heavylift_runs.params),
        options = IF({_FRESH}, i.options, heavylift_runs.options),
        enqueued_ms = IF({_FRESH}, i.enqueued_ms, heavylift_runs.enqueued_ms),
        enqueued_at = IF({_FRESH}, {ENQUEUED_AT}, heavylift_runs.enqueued_at),
        crashes = heavylift_runs.crashes + IF({_CLAIMED_NOW}, coalesce(i.open, 0), 0),
        worker = IF({_CLAIMED_NOW}, :worker, heavylift_runs.worker),
        waiting_for = IF({_CLAIMED_NOW}, NULL, heavylift_runs.waiting_for),
        due_at = IF({_CLAIMED_NOW}, NULL, heavylift_runs.due_at),
        status = IF({_CLAIMED_NOW}, 'running', heavylift_runs.status),
        started_at = IF({_CLAIMED_NOW}, coalesce(heavylift_runs.started_at, utc_timestamp(6)),
                        heavylift_runs.started_at)
    """  # noqa: S608 - constant texts
)

_CLAIM_PROGRESS = text(
    # the claimed chunk comes after what is told by it
    f"""
    INSERT INTO heavylift_progress (run_id, fence, token, open)
    SELECT i.id, 1, i.token, true
    FROM JSON_TABLE(:tokens, '$[*]' COLUMNS (
        place FOR ORDINALITY, id {TEXT} PATH '$.id', token {TEXT} PATH '$.token'
    )) AS i JOIN heavylift_runs AS r ON r.id = i.id
    WHERE r.status = 'running' ORDER BY i.place
    ON DUPLICATE KEY UPDATE
        crash_streak = IF(heavylift_progress.chunk > heavylift_progress.claimed_chunk, 0,
                          heavylift_progress.crash_streak + heavylift_progress.open),
        failures = IF(heavylift_progress.chunk > heavylift_progress.claimed_chunk, 0, heavylift_progress.failures),
        claimed_chunk = heavylift_progress.chunk,
        fence = heavylift_progress.fence + 1, token = i.token, open = true
    """  # noqa: S608 - constant texts
)

_FOUND = (
    select(*CLAIM_COLUMNS, utc_now().label("claimed_at"))
    .select_from(RUNS.outerjoin(PROGRESS, (PROGRESS.c.run_id == RUNS.c.id) & (RUNS.c.status == Status.RUNNING.value)))
    .order_by(RUNS.c.id)
)

_BEGUN = select(RUNS.c.id, RUNS.c.status, PROGRESS.c.run_id).select_from(
    RUNS.outerjoin(PROGRESS, PROGRESS.c.run_id == RUNS.c.id)
)

_WAITING: Final = (Status.QUEUED.value, Status.WAITING.value)

_CLAIM_LOST = update(RUNS).values(status=Status.RUNNING.value, waiting_for=None, due_at=None)


def claim(connection: Connection, deliveries: Sequence[Delivery], worker: str) -> list[Claim]:
    """Claim runs, a few statements for all, in the order of their ids; alone in its transaction."""
    claims, left = _claim(connection, in_order(deliveries), worker)
    while left:
        # Kept, not undone: InnoDB turns locks that others wait for on a row whose insert is undone into locks of gaps,
        # and these dead-lock.
        connection.connection.commit()
        more, left = _claim(connection, left, worker)
        claims += more
    return claims


def _claim(
    connection: Connection, deliveries: Sequence[Delivery], worker: str
) -> tuple[list[Claim], Sequence[Delivery]]:
    """The claims, and the deliveries that another claim was before at, which are to be tried again after it."""
    ids = [delivery.run_id for delivery in deliveries]
    known = {row.run_id: int(row.open) for row in connection.execute(_LOCK.where(PROGRESS.c.run_id.in_(ids)))}
    more: list[dict[str, object]] = [{"open": known.get(run_id)} for run_id in ids]
    connection.execute(_CLAIM_RUNS, {"sent": sent(deliveries, more), "worker": worker})
    late = _late(connection, [run_id for run_id in ids if run_id not in known], worker)
    own = [run_id for run_id in ids if run_id not in late]
    tokens = orjson.dumps([{"id": run_id, "token": uuid4().hex} for run_id in own]).decode()
    connection.execute(_CLAIM_PROGRESS, {"tokens": tokens})
    claims = [read_claim(row) for row in connection.execute(_FOUND.where(RUNS.c.id.in_(own)))]
    return claims, [delivery for delivery in deliveries if delivery.run_id in late]


def _late(connection: Connection, first: Sequence[str], worker: str) -> set[str]:
    """Those of some runs, locked now and never begun when this claim began, that another claim was before at.

    Such a claim had to wait for the other one. It has the run's row and not that of its progress, which is there by now
    and comes first: whoever has that one may be waiting for the run.
    """
    if not first:
        return set()
    found = connection.execute(_BEGUN.where(RUNS.c.id.in_(first))).all()
    # begun, and their progress lost: whatever did that, they go on
    if lost := [row.id for row in found if row.run_id is None and row.status in _WAITING]:
        connection.execute(_CLAIM_LOST.where(RUNS.c.id.in_(lost)).values(worker=worker))
    return {row.id for row in found if row.run_id is not None}
