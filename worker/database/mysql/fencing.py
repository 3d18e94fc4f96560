"""Chunks, words and endings on MariaDB and MySQL: each a few statements in one transaction, each fenced.

No statement here changes two tables or returns what it changed. The order of row locks is the same everywhere,
progress before run, each in the order of the ids, so that nobody waits for another in a circle. Moving a run on, which
every chunk does, is one statement.
"""

from typing import Final
from uuid import uuid4

from sqlalchemy import Connection, bindparam, select, text

from worker.core.outcomes import Outcome, Status
from worker.core.progress import Progress
from worker.database.claims import Claimed, Fence, Held
from worker.database.column_types import Document, Instant, utc_now
from worker.database.endings import ending_values, read_claimed
from worker.database.mysql.claiming import CLAIM_COLUMNS
from worker.database.tables import PROGRESS, RUNS

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

_CLAIMED = select(*CLAIM_COLUMNS, utc_now().label("claimed_at")).select_from(
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
