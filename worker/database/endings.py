"""What every database's fencing has in common: how a row of a claim is read, and what an outcome writes.

Owns the values. Refuses SQL: each dialect's statements take and give them.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Row

from worker.core.outcomes import STATUS_AFTER, Failed, Interrupted, Outcome, RetryAt, Snoozed, Status, Succeeded
from worker.core.progress import Progress
from worker.database.claims import Claim, Claimed, Fence, NotClaimable


def ending_values(claimed: Claimed, outcome: Outcome, worker: str) -> dict[str, object]:
    """The parameters of the statements that write an outcome down.

    Returns:
        By name: `id`, `fence`, `token`, `claimed_at` of the claim; `worker`; `outcome` by name; `status`, and whether
        it is `finished`; whether the attempt `failed`; `done`, `total` and `counters` where it says more than its
        chunks did; `result` and `error`, JSON-safe; `waiting_for` and `due_at`; how much to add to the attempts
        (`counted`) and to the interruptions (`interrupted`). None for what there is not.
    """
    status = STATUS_AFTER[type(outcome)]
    error = outcome.error if isinstance(outcome, RetryAt | Failed) else None
    succeeded = isinstance(outcome, Succeeded)
    progress = claimed.progress
    return {
        "id": claimed.fence.run_id,
        "fence": claimed.fence.number,
        "token": claimed.fence.token,
        "worker": worker,
        "status": status.value,
        "outcome": type(outcome).__name__.lower(),
        "finished": status.finished,
        "failed": error is not None,
        # only a success may say more than its chunks did: an open chunk of any other attempt was rolled back
        "done": progress.done if succeeded else None,
        "total": progress.total if succeeded else None,
        "counters": progress.counters if succeeded else None,
        "result": outcome.result if isinstance(outcome, Succeeded) else None,
        "error": None if error is None else error.as_json(),
        "waiting_for": _waiting_for(outcome),
        "due_at": _due_at(outcome),
        "counted": int(succeeded or error is not None),
        "interrupted": int(isinstance(outcome, Interrupted)),
        "claimed_at": claimed.claimed_at,
    }


def read_claim(row: "Row[*tuple[Any, ...]]") -> Claim:
    """A row of a claim: of a run and its progress, which has no fence where the run was found but not claimed."""
    return read_claimed(row) if row.fence is not None else _not_claimable(row)


def read_claimed(row: "Row[*tuple[Any, ...]]") -> Claimed:
    """A row of a claimed run and its progress."""
    progress = Progress(row.done, row.total, dict(row.counters or {}), row.cursor, row.chunk, row.chunk_rows)
    return Claimed(
        fence=Fence(row.id, row.fence, row.token),
        job=row.job,
        params=row.params,
        options=row.options,
        progress=progress,
        attempts=row.attempts,
        failures=row.failures,
        crashes=row.crashes,
        crash_streak=row.crash_streak,
        wanted=row.wanted,
        started_at=row.started_at,
        claimed_at=row.claimed_at,
        enqueued_by=row.enqueued_by,
    )


def _not_claimable(row: "Row[*tuple[Any, ...]]") -> NotClaimable:
    return NotClaimable(row.id, Status(row.status), row.enqueued_ms, row.result, row.error)


def _waiting_for(outcome: Outcome) -> str | None:
    match outcome:
        case RetryAt(when, error):
            return f"backing off until {when.isoformat(timespec='seconds')} after {error.type}: {error.message}"
        case Snoozed(until, reason):
            again = until.isoformat(timespec="seconds")
            return f"snoozed until {again}" if reason is None else f"{reason}, tried again at {again}"
        case _ if STATUS_AFTER[type(outcome)] is Status.CANCELLED:
            return getattr(outcome, "reason", None)
        case _:
            return None


def _due_at(outcome: Outcome) -> datetime | None:
    match outcome:
        case RetryAt(when):
            return when
        case Snoozed(until):
            return until
        case _:
            return None
