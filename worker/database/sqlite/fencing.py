"""Claims, chunks and endings on SQLite: each a few statements, each fenced.

SQLite changes one table a statement. That several statements are one step is the write lock's doing, which each of
these transactions has had since it began: nobody else writes meanwhile, so nothing need be locked or looked at twice.
"""

from collections.abc import Sequence
from uuid import uuid4

from sqlalchemy import Connection, CursorResult, bindparam, select, text, update

from worker.core.outcomes import Outcome, Status
from worker.core.progress import Progress
from worker.database.claims import Claim, Claimed, Delivery, Fence, Held
from worker.database.column_types import Document, Instant, utc_now
from worker.database.endings import ending_values, read_claim, read_claimed
from worker.database.sqlite.column_types import NOW
from worker.database.sqlite.enqueue import MOMENT, SENT, sent
from worker.database.tables import ATTEMPTS, PROGRESS, RUNS

_OPEN = "h.status IN ('queued', 'waiting', 'running')"
_FRESH = "h.started_at IS NULL AND h.enqueued_by IS NULL AND h.status IN ('queued', 'waiting')"

_RUN = (
    *(RUNS.c[name] for name in ("id", "job", "params", "options", "status", "enqueued_ms", "enqueued_by", "attempts")),
    *(RUNS.c[name] for name in ("crashes", "started_at", "result", "error")),
)
_PROGRESS = (
    *(PROGRESS.c[name] for name in ("fence", "token", "chunk", "cursor", "done", "total", "counters", "chunk_rows")),
    *(PROGRESS.c[name] for name in ("failures", "crash_streak", "wanted")),
)

_CLAIM_RUNS = text(
    # A finished or paused run is found, not claimed: its row stays as it is and it gets no fence. A claim that finds
    # the one before it open follows a crash, whatever the status: a held run is `waiting`. A run that came by arq's
    # wire alone and that nobody could start so far is what this delivery, now read and bound, says that it is.
    f"""
    INSERT INTO heavylift_runs AS h
        (id, job, queue, params, options, status, enqueued_ms, enqueued_at, started_at, worker)
    SELECT id, job, queue, params, options, 'running', enqueued_ms, {MOMENT.format("enqueued_ms")}, {NOW}, :worker
    FROM (SELECT {SENT} FROM json_each(:sent))
    WHERE true
    ON CONFLICT (id) DO UPDATE SET
        status = CASE WHEN {_OPEN} THEN 'running' ELSE h.status END,
        started_at = CASE WHEN {_OPEN} THEN coalesce(h.started_at, excluded.started_at) ELSE h.started_at END,
        worker = CASE WHEN {_OPEN} THEN excluded.worker ELSE h.worker END,
        crashes = h.crashes
                  + coalesce((SELECT p.open FROM heavylift_progress AS p WHERE p.run_id = h.id), h.status = 'running'),
        waiting_for = CASE WHEN {_OPEN} THEN NULL ELSE h.waiting_for END,
        due_at = CASE WHEN {_OPEN} THEN NULL ELSE h.due_at END,
        job = CASE WHEN {_FRESH} THEN excluded.job ELSE h.job END,
        params = CASE WHEN {_FRESH} THEN excluded.params ELSE h.params END,
        options = CASE WHEN {_FRESH} THEN excluded.options ELSE h.options END,
        enqueued_ms = CASE WHEN {_FRESH} THEN excluded.enqueued_ms ELSE h.enqueued_ms END,
        enqueued_at = CASE WHEN {_FRESH} THEN excluded.enqueued_at ELSE h.enqueued_at END
    """  # noqa: S608 - constant texts
)

_CLAIM_PROGRESS = text(
    """
    INSERT INTO heavylift_progress AS h (run_id, fence, token, open)
    SELECT r.id, 1, json_extract(i.value, '$.token'), true
    FROM json_each(:sent) AS i JOIN heavylift_runs AS r ON r.id = json_extract(i.value, '$.id')
    WHERE r.status = 'running'
    ON CONFLICT (run_id) DO UPDATE SET
        fence = h.fence + 1, token = excluded.token, open = true,
        crash_streak = CASE WHEN h.chunk > h.claimed_chunk THEN 0 ELSE h.crash_streak + h.open END,
        failures = CASE WHEN h.chunk > h.claimed_chunk THEN 0 ELSE h.failures END,
        claimed_chunk = h.chunk
    """
)

_CLAIMED = (
    select(*_RUN, *_PROGRESS, utc_now().label("claimed_at"))
    .select_from(RUNS.outerjoin(PROGRESS, (PROGRESS.c.run_id == RUNS.c.id) & (RUNS.c.status == Status.RUNNING.value)))
    .order_by(RUNS.c.id)
)

_HELD = (
    PROGRESS.c.run_id == bindparam("held_id"),
    PROGRESS.c.fence == bindparam("held_fence"),
    PROGRESS.c.token == bindparam("held_token"),
)

_RECLAIM = update(PROGRESS).where(*_HELD).values(fence=PROGRESS.c.fence + 1, token=bindparam("new_token"))

_GOES_ON = (
    # a hold that failed is over
    update(RUNS)
    .where(
        RUNS.c.id == bindparam("run_id"),
        RUNS.c.status.in_([Status.RUNNING.value, Status.WAITING.value]),
        RUNS.c.waiting_for.is_not(None),
    )
    .values(status=Status.RUNNING.value, waiting_for=None)
)

_ADVANCE = text(
    f"""
    UPDATE heavylift_progress
    SET chunk = chunk + 1, cursor = :cursor, done = :done, total = :total, counters = :counters,
        chunk_rows = :chunk_rows, updated_at = {NOW}
    WHERE run_id = :id AND fence = :fence AND token = :token AND chunk = :chunk
    RETURNING wanted
    """  # noqa: S608 - a constant text
).bindparams(bindparam("cursor", type_=Document()), bindparam("counters", type_=Document()))

_WANTED = text("SELECT wanted FROM heavylift_progress WHERE run_id = :id AND fence = :fence AND token = :token")

_TELL = text(
    """
    UPDATE heavylift_runs SET status = :status, waiting_for = :waiting_for
    WHERE id = :id AND status IN ('running', 'waiting')
          AND (status IS NOT :status OR waiting_for IS NOT :waiting_for)
    """
)

_END_PROGRESS = text(
    f"""
    UPDATE heavylift_progress
    SET open = false, token = NULL, wanted = NULL,
        failures = CASE WHEN NOT :failed THEN failures WHEN chunk > claimed_chunk THEN 1 ELSE failures + 1 END,
        done = coalesce(:done, done), total = coalesce(:total, total), counters = coalesce(:counters, counters),
        updated_at = {NOW}
    WHERE run_id = :id AND fence = :fence AND token = :token
    RETURNING claimed_chunk
    """  # noqa: S608 - a constant text
).bindparams(bindparam("counters", type_=Document()))

_END_RUN = text(
    f"""
    UPDATE heavylift_runs
    SET status = :status, result = :result, error = :error, waiting_for = :waiting_for, due_at = :due_at,
        finished_at = CASE WHEN :finished THEN {NOW} END,
        attempts = attempts + :counted, interruptions = interruptions + :interrupted
    WHERE id = :id
    """  # noqa: S608 - a constant text
).bindparams(
    bindparam("result", type_=Document()), bindparam("error", type_=Document()), bindparam("due_at", type_=Instant())
)

_END_ATTEMPT = ATTEMPTS.insert().values(ended_at=utc_now())


def claim(connection: Connection, deliveries: Sequence[Delivery], worker: str) -> list[Claim]:
    """Claim runs, three statements for all, in the order of their ids."""
    incoming = sent(deliveries, [{"token": uuid4().hex} for _ in deliveries])
    connection.execute(_CLAIM_RUNS, {"sent": incoming, "worker": worker})
    connection.execute(_CLAIM_PROGRESS, {"sent": incoming})
    claimed = connection.execute(_CLAIMED.where(RUNS.c.id.in_([delivery.run_id for delivery in deliveries])))
    return [read_claim(row) for row in claimed]


def reclaim(connection: Connection, held: Fence) -> Claimed | None:
    """Claim again what this worker holds; None when a newer claim holds it, or when it has ended."""
    fence = {"held_id": held.run_id, "held_fence": held.number, "held_token": held.token}
    if connection.execute(_RECLAIM, {**fence, "new_token": uuid4().hex}).rowcount == 0:
        return None
    # what the run was told before is what a claim finds of it, too
    found = connection.execute(
        select(*_RUN, *_PROGRESS, utc_now().label("claimed_at"))
        .select_from(RUNS.join(PROGRESS, PROGRESS.c.run_id == RUNS.c.id))
        .where(RUNS.c.id == held.run_id)
    ).one()
    connection.execute(_GOES_ON, {"run_id": held.run_id})
    return read_claimed(found)


def advance(connection: Connection, fence: Fence, progress: Progress) -> Held | None:
    """Move a run on by one chunk where the fence holds; None where it does not."""
    rows = connection.execute(
        _ADVANCE,
        {
            "id": fence.run_id,
            "fence": fence.number,
            "token": fence.token,
            "chunk": progress.chunk,
            "cursor": progress.cursor,
            "done": progress.done,
            "total": progress.total,
            "counters": progress.counters,
            "chunk_rows": progress.chunk_rows,
        },
    )
    return _held(rows)


def tell(connection: Connection, fence: Fence, status: Status, waiting_for: str | None) -> Held | None:
    """Say why a claimed run does not go on, where the fence holds; None where it does not."""
    held = _held(connection.execute(_WANTED, {"id": fence.run_id, "fence": fence.number, "token": fence.token}))
    if held is not None:
        connection.execute(_TELL, {"id": fence.run_id, "status": status.value, "waiting_for": waiting_for})
    return held


def end(connection: Connection, claimed: Claimed, outcome: Outcome, worker: str) -> bool:
    """Write an outcome down where the fence holds; whether it does."""
    values = ending_values(claimed, outcome, worker)
    owned = connection.execute(_END_PROGRESS, values).one_or_none()
    if owned is None:
        return False
    connection.execute(_END_RUN, values)
    connection.execute(
        _END_ATTEMPT,
        {
            "run_id": claimed.fence.run_id,
            "fence": claimed.fence.number,
            "worker": worker,
            "started_at": claimed.claimed_at,
            "outcome": values["outcome"],
            "first_chunk": owned.claimed_chunk,
            "error": values["error"],
        },
    )
    return True


def _held(rows: CursorResult[str | None]) -> Held | None:
    row = rows.first()
    return None if row is None else Held(row[0])
