"""Claims, chunks and endings on PostgreSQL: each one statement, each fenced.

The order of row locks is the same everywhere, progress before run, so that a claim and the chunk or the ending of
the worker that it replaces wait for each other instead of dead-locking.
"""

from collections.abc import Sequence
from uuid import uuid4

import orjson
from sqlalchemy import Connection, CursorResult, text

from worker.core.outcomes import Outcome, Status
from worker.core.progress import Progress
from worker.database.claims import Claim, Claimed, Delivery, Fence, Held
from worker.database.endings import ending_values, read_claim, read_claimed

_PROGRESS = (
    "p.fence, p.token, p.chunk, p.cursor, p.done, p.total, p.counters, p.chunk_rows, p.failures, p.crash_streak, "
    "p.wanted"
)
_RUN = (
    "r.id, r.job, r.params, r.options, r.status, r.enqueued_ms, r.enqueued_by, r.attempts, r.crashes, r.started_at, "
    "r.result, r.error"
)

_FRESH = "h.started_at IS NULL AND h.enqueued_by IS NULL AND h.status IN ('queued', 'waiting')"

_CLAIM = text(
    # A finished or paused run is found, not claimed: its row stays as it is and it gets no fence. A claim that finds
    # the one before it open follows a crash, whatever the status: a held run is `waiting`. Two first claims at once do
    # not see each other's progress yet: there the status tells. A run that came by arq's wire alone and that nobody
    # could start so far is what this delivery, now read and bound, says that it is.
    f"""
    WITH incoming AS (
        SELECT * FROM unnest(
            CAST(:ids AS text[]), CAST(:jobs AS text[]), CAST(:queues AS text[]), CAST(:params AS json[]),
            CAST(:options AS json[]), CAST(:enqueued AS bigint[]), CAST(:tokens AS text[])
        ) AS i (id, job, queue, params, options, enqueued_ms, token)
    ), locked AS MATERIALIZED (
        SELECT run_id, open FROM heavylift_progress
        WHERE run_id IN (SELECT id FROM incoming) ORDER BY run_id FOR UPDATE
    ), r AS (
        INSERT INTO heavylift_runs AS h
            (id, job, queue, params, options, status, enqueued_ms, enqueued_at, started_at, worker)
        SELECT i.id, i.job, i.queue, i.params, i.options, 'running', i.enqueued_ms,
               to_timestamp(i.enqueued_ms / 1000.0), now(), :worker
        FROM incoming AS i LEFT JOIN locked AS l ON l.run_id = i.id
        ORDER BY i.id
        ON CONFLICT (id) DO UPDATE SET
            status = CASE WHEN h.status IN ('queued', 'waiting', 'running') THEN 'running' ELSE h.status END,
            started_at = CASE WHEN h.status IN ('queued', 'waiting', 'running')
                              THEN coalesce(h.started_at, now()) ELSE h.started_at END,
            worker = CASE WHEN h.status IN ('queued', 'waiting', 'running') THEN excluded.worker ELSE h.worker END,
            crashes = h.crashes + CASE
                WHEN coalesce((SELECT l.open FROM locked AS l WHERE l.run_id = h.id), h.status = 'running')
                THEN 1 ELSE 0 END,
            waiting_for = CASE WHEN h.status IN ('queued', 'waiting', 'running') THEN NULL ELSE h.waiting_for END,
            due_at = CASE WHEN h.status IN ('queued', 'waiting', 'running') THEN NULL ELSE h.due_at END,
            job = CASE WHEN {_FRESH} THEN excluded.job ELSE h.job END,
            params = CASE WHEN {_FRESH} THEN excluded.params ELSE h.params END,
            options = CASE WHEN {_FRESH} THEN excluded.options ELSE h.options END,
            enqueued_ms = CASE WHEN {_FRESH} THEN excluded.enqueued_ms ELSE h.enqueued_ms END,
            enqueued_at = CASE WHEN {_FRESH} THEN excluded.enqueued_at ELSE h.enqueued_at END
        RETURNING h.*
    ), p AS (
        INSERT INTO heavylift_progress AS h (run_id, fence, token, open)
        SELECT r.id, 1, i.token, true FROM r JOIN incoming AS i ON i.id = r.id
        WHERE r.status = 'running' ORDER BY r.id
        ON CONFLICT (run_id) DO UPDATE SET
            fence = h.fence + 1, token = excluded.token, open = true,
            crash_streak = CASE WHEN h.chunk > h.claimed_chunk THEN 0
                                ELSE h.crash_streak + CASE WHEN h.open THEN 1 ELSE 0 END END,
            failures = CASE WHEN h.chunk > h.claimed_chunk THEN 0 ELSE h.failures END,
            claimed_chunk = h.chunk
        RETURNING h.*
    )
    SELECT {_RUN}, {_PROGRESS}, now() AS claimed_at FROM r LEFT JOIN p ON p.run_id = r.id ORDER BY r.id
    """  # noqa: S608 - constant column lists
)

_RECLAIM = text(
    # waits behind the row lock of a doubtful transaction, then sees what became of it; a hold that failed is over
    f"""
    WITH p AS (
        UPDATE heavylift_progress AS h SET fence = h.fence + 1, token = :new_token
        WHERE h.run_id = :id AND h.fence = :fence AND h.token = :token
        RETURNING h.*
    ), told AS (
        UPDATE heavylift_runs AS h SET status = 'running', waiting_for = NULL
        FROM p WHERE h.id = p.run_id AND h.status IN ('running', 'waiting') AND h.waiting_for IS NOT NULL
    )
    SELECT {_RUN}, {_PROGRESS}, now() AS claimed_at FROM p JOIN heavylift_runs AS r ON r.id = p.run_id
    """  # noqa: S608 - constant column lists
)

_ADVANCE = text(
    """
    UPDATE heavylift_progress
    SET chunk = chunk + 1, cursor = CAST(:cursor AS json), done = :done, total = :total,
        counters = CAST(:counters AS json), chunk_rows = :chunk_rows, updated_at = now()
    WHERE run_id = :id AND fence = :fence AND token = :token AND chunk = :chunk
    RETURNING wanted
    """
)

_TELL = text(
    # the lock keeps a newer claim from committing between the check and the write
    """
    WITH owned AS MATERIALIZED (
        SELECT run_id, wanted FROM heavylift_progress
        WHERE run_id = :id AND fence = :fence AND token = :token FOR NO KEY UPDATE
    ), told AS (
        UPDATE heavylift_runs
        SET status = CAST(:status AS varchar), waiting_for = CAST(:waiting_for AS text)
        FROM owned WHERE id = owned.run_id AND status IN ('running', 'waiting')
             AND (status, waiting_for) IS DISTINCT FROM (CAST(:status AS varchar), CAST(:waiting_for AS text))
    )
    SELECT wanted FROM owned
    """
)

_END = text(
    """
    WITH owned AS (
        UPDATE heavylift_progress
        SET open = false, token = NULL, wanted = NULL,
            failures = CASE WHEN NOT :failed THEN failures WHEN chunk > claimed_chunk THEN 1 ELSE failures + 1 END,
            done = coalesce(:done, done), total = coalesce(:total, total),
            counters = coalesce(CAST(:counters AS json), counters), updated_at = now()
        WHERE run_id = :id AND fence = :fence AND token = :token
        RETURNING run_id, claimed_chunk
    ), run AS (
        UPDATE heavylift_runs
        SET status = :status, result = CAST(:result AS json), error = CAST(:error AS json),
            waiting_for = :waiting_for, due_at = :due_at,
            finished_at = CASE WHEN :finished THEN now() END,
            attempts = attempts + :counted, interruptions = interruptions + :interrupted
        FROM owned WHERE id = owned.run_id
    )
    INSERT INTO heavylift_attempts (run_id, fence, worker, started_at, ended_at, outcome, first_chunk, error)
    SELECT owned.run_id, :fence, :worker, :claimed_at, now(), :outcome, owned.claimed_chunk, CAST(:error AS json)
    FROM owned
    """
)


def claim(connection: Connection, deliveries: Sequence[Delivery], worker: str) -> list[Claim]:
    """Claim runs, one statement for all, in the order of their ids."""
    ordered = sorted(deliveries, key=lambda delivery: delivery.run_id.encode())
    rows = connection.execute(
        _CLAIM,
        {
            "ids": [delivery.run_id for delivery in ordered],
            "jobs": [delivery.job for delivery in ordered],
            "queues": [delivery.queue for delivery in ordered],
            "params": [_json(delivery.params) for delivery in ordered],
            "options": [_json(delivery.options) for delivery in ordered],
            "enqueued": [delivery.enqueued_ms for delivery in ordered],
            "tokens": [uuid4().hex for _ in ordered],
            "worker": worker,
        },
    )
    return [read_claim(row) for row in rows]


def reclaim(connection: Connection, held: Fence) -> Claimed | None:
    """Claim again what this worker holds; None when a newer claim holds it, or when it has ended."""
    rows = connection.execute(
        _RECLAIM, {"id": held.run_id, "fence": held.number, "token": held.token, "new_token": uuid4().hex}
    )
    row = rows.one_or_none()
    return None if row is None else read_claimed(row)


def advance(connection: Connection, fence: Fence, progress: Progress) -> Held | None:
    """Move a run on by one chunk where the fence holds; None where it does not."""
    rows = connection.execute(
        _ADVANCE,
        {
            "id": fence.run_id,
            "fence": fence.number,
            "token": fence.token,
            "chunk": progress.chunk,
            "cursor": _json(progress.cursor),
            "done": progress.done,
            "total": progress.total,
            "counters": _json(progress.counters),
            "chunk_rows": progress.chunk_rows,
        },
    )
    return _held(rows)


def tell(connection: Connection, fence: Fence, status: Status, waiting_for: str | None) -> Held | None:
    """Say why a claimed run does not go on, where the fence holds; None where it does not."""
    rows = connection.execute(
        _TELL,
        {
            "id": fence.run_id,
            "fence": fence.number,
            "token": fence.token,
            "status": status.value,
            "waiting_for": waiting_for,
        },
    )
    return _held(rows)


def end(connection: Connection, claimed: Claimed, outcome: Outcome, worker: str) -> bool:
    """Write an outcome down where the fence holds; whether it does."""
    values = ending_values(claimed, outcome, worker)
    documents = {name: _json(values[name]) for name in ("counters", "result", "error")}
    written = connection.execute(_END, {**values, **documents})
    return written.rowcount > 0


def _held(rows: CursorResult[str | None]) -> Held | None:
    row = rows.first()
    return None if row is None else Held(row[0])


def _json(value: object) -> str | None:
    return None if value is None else orjson.dumps(value).decode()
