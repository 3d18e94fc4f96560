"""Claims, chunks and endings on MariaDB and MySQL: each a few statements in one transaction, each fenced.

No statement here changes two tables or returns what it changed. The order of row locks is the same everywhere,
progress before run, each in the order of the ids, so that nobody waits for another in a circle. Moving a run on, which
every chunk does, is one statement.
"""

from collections.abc import Sequence
from typing import Final
from uuid import uuid4

import orjson
from sqlalchemy import Connection, bindparam, select, text

from worker.core.outcomes import Outcome, Status
from worker.core.progress import Progress
from worker.database.claims import Claim, Claimed, Delivery, Fence, Held
from worker.database.column_types import Document, Instant, utc_now
from worker.database.endings import ending_values, read_claim, read_claimed
from worker.database.mysql.enqueue import ENQUEUED_AT, SENT, TEXT, in_order, sent
from worker.database.tables import PROGRESS, RUNS

_RUN = (
    *(RUNS.c[name] for name in ("id", "job", "params", "options", "status", "enqueued_ms", "enqueued_by", "attempts")),
    *(RUNS.c[name] for name in ("crashes", "started_at", "result", "error")),
)
_PROGRESS = (
    *(PROGRESS.c[name] for name in ("fence", "token", "chunk", "cursor", "done", "total", "counters", "chunk_rows")),
    *(PROGRESS.c[name] for name in ("failures", "crash_streak", "wanted")),
)

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

_WANTED: Final = (None, "pause", "cancel")
"""What `_ADVANCE` says of a run by number."""

_ADVANCE = text(
    # The number that LAST_INSERT_ID is given comes back with the count of rows. It tells what somebody wants of the
    # run without another round trip.
    f"""
    UPDATE heavylift_progress
    SET chunk = chunk + 1 + 0 * LAST_INSERT_ID(CASE WHEN wanted IS NULL THEN 0 WHEN wanted = '{_WANTED[1]}' THEN 1
                                                    WHEN wanted = '{_WANTED[2]}' THEN 2 END),
        `cursor` = :cursor, done = :done, total = :total, counters = :counters, chunk_rows = :chunk_rows,
        updated_at = utc_timestamp(6)
    WHERE run_id = :id AND fence = :fence AND token = :token AND chunk = :chunk
    """  # noqa: S608 - constant texts
).bindparams(bindparam("cursor", type_=Document()), bindparam("counters", type_=Document()))

_END_PROGRESS = text(
    """
    UPDATE heavylift_progress
    SET open = false, token = NULL, wanted = NULL,
        failures = CASE WHEN NOT :failed THEN failures WHEN chunk > claimed_chunk THEN 1 ELSE failures + 1 END,
        done = coalesce(:done, done), total = coalesce(:total, total), counters = coalesce(:counters, counters),
        updated_at = utc_timestamp(6)
    WHERE run_id = :id AND fence = :fence AND token = :token
    """
).bindparams(bindparam("counters", type_=Document()))

_END_RUN = text(
    """
    UPDATE heavylift_runs
    SET status = :status, result = :result, error = :error, waiting_for = :waiting_for, due_at = :due_at,
        finished_at = IF(:finished, utc_timestamp(6), NULL),
        attempts = attempts + :counted, interruptions = interruptions + :interrupted
    WHERE id = :id
    """
).bindparams(
    bindparam("result", type_=Document()), bindparam("error", type_=Document()), bindparam("due_at", type_=Instant())
)

_END_ATTEMPT = text(
    """
    INSERT INTO heavylift_attempts (run_id, fence, worker, started_at, ended_at, outcome, first_chunk, error)
    SELECT run_id, :fence, :worker, :claimed_at, utc_timestamp(6), :outcome, claimed_chunk, :error
    FROM heavylift_progress WHERE run_id = :id
    """
).bindparams(bindparam("claimed_at", type_=Instant()), bindparam("error", type_=Document()))

_FOUND = (
    select(*_RUN, *_PROGRESS, utc_now().label("claimed_at"))
    .select_from(RUNS.outerjoin(PROGRESS, (PROGRESS.c.run_id == RUNS.c.id) & (RUNS.c.status == Status.RUNNING.value)))
    .order_by(RUNS.c.id)
)

_NEW = select(PROGRESS.c.run_id)

_CLAIMED = select(*_RUN, *_PROGRESS, utc_now().label("claimed_at")).select_from(
    RUNS.join(PROGRESS, PROGRESS.c.run_id == RUNS.c.id)
)

_RECLAIM = text(
    "UPDATE heavylift_progress SET fence = fence + 1, token = :new_token "
    "WHERE run_id = :id AND fence = :fence AND token = :token"
)

_RESUME = text(
    "UPDATE heavylift_runs SET status = 'running', waiting_for = NULL "
    "WHERE id = :id AND status IN ('running', 'waiting') AND waiting_for IS NOT NULL"
)

_LOCK_OWN = text(
    "SELECT wanted FROM heavylift_progress WHERE run_id = :id AND fence = :fence AND token = :token FOR UPDATE"
)

_TELL = text(
    "UPDATE heavylift_runs SET status = :status, waiting_for = :waiting_for "
    "WHERE id = :id AND status IN ('running', 'waiting')"
)


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
    # A first claim that had to wait for another one has the run's row, and not that of its progress, which is there by
    # now and comes first: whoever has that one may be waiting for the run.
    first = [run_id for run_id in ids if run_id not in known]
    late = set(connection.execute(_NEW.where(PROGRESS.c.run_id.in_(first))).scalars()) if first else set()
    own = [run_id for run_id in ids if run_id not in late]
    tokens = orjson.dumps([{"id": run_id, "token": uuid4().hex} for run_id in own]).decode()
    connection.execute(_CLAIM_PROGRESS, {"tokens": tokens})
    claims = [read_claim(row) for row in connection.execute(_FOUND.where(RUNS.c.id.in_(own)))]
    return claims, [delivery for delivery in deliveries if delivery.run_id in late]


def reclaim(connection: Connection, held: Fence) -> Claimed | None:
    """Claim again what this worker holds; None when a newer claim holds it, or when it has ended.

    Waits behind the row lock of a doubtful transaction, then sees what became of it.
    """
    if connection.execute(_RECLAIM, {**_held_by(held), "new_token": uuid4().hex}).rowcount == 0:
        return None
    found = connection.execute(_CLAIMED.where(RUNS.c.id == held.run_id)).one()
    # a hold that failed is over; what the run was told before is what a claim finds of it, too
    connection.execute(_RESUME, {"id": held.run_id})
    return read_claimed(found)


def advance(connection: Connection, fence: Fence, progress: Progress) -> Held | None:
    """Move a run on by one chunk where the fence holds; None where it does not."""
    moved = connection.execute(
        _ADVANCE,
        {
            **_held_by(fence),
            "chunk": progress.chunk,
            "cursor": progress.cursor,
            "done": progress.done,
            "total": progress.total,
            "counters": progress.counters,
            "chunk_rows": progress.chunk_rows,
        },
    )
    # of an UPDATE the driver says how many rows it found, changed or not
    return Held(_WANTED[moved.lastrowid]) if moved.rowcount else None


def tell(connection: Connection, fence: Fence, status: Status, waiting_for: str | None) -> Held | None:
    """Say why a claimed run does not go on, where the fence holds; None where it does not."""
    # the lock keeps a newer claim from committing between the check and the write
    owned = connection.execute(_LOCK_OWN, _held_by(fence)).one_or_none()
    if owned is None:
        return None
    connection.execute(_TELL, {"id": fence.run_id, "status": status.value, "waiting_for": waiting_for})
    return Held(owned.wanted)


def end(connection: Connection, claimed: Claimed, outcome: Outcome, worker: str) -> bool:
    """Write an outcome down where the fence holds; whether it does."""
    values = ending_values(claimed, outcome, worker)
    if connection.execute(_END_PROGRESS, values).rowcount == 0:
        return False
    connection.execute(_END_RUN, values)
    connection.execute(_END_ATTEMPT, values)
    return True


def _held_by(fence: Fence) -> dict[str, object]:
    return {"id": fence.run_id, "fence": fence.number, "token": fence.token}
