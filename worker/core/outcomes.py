"""How an attempt can end: a closed set, and the run's statuses with the moves between them.

Owns the words. Refuses to choose among them (`worker.core.retry` does) and to write them down
(`worker.database.ledger` does).
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Status(StrEnum):
    """Where a run stands. The values are part of the outer contract."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether no worker will touch the run again unless a person asks for it."""
        return self in {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED}


TRANSITIONS: dict[Status, frozenset[Status]] = {
    # claimed; paused or cancelled before any worker had it
    Status.QUEUED: frozenset({Status.RUNNING, Status.PAUSED, Status.CANCELLED}),
    # the eight outcomes, and a claim after a crash (running again)
    Status.RUNNING: frozenset(Status),
    # its moment came; paused or cancelled while it waited; held by the governor, its attempt ends like a running one's
    Status.WAITING: frozenset(Status) - {Status.SUCCEEDED},
    # resumed, or given up
    Status.PAUSED: frozenset({Status.QUEUED, Status.CANCELLED}),
    # asked for again by a person
    Status.FAILED: frozenset({Status.QUEUED}),
    Status.CANCELLED: frozenset({Status.QUEUED}),
    # done is done: the same work again is a new run
    Status.SUCCEEDED: frozenset(),
}
"""Which status may follow which, with the reason. A claim by two workers at once shows as running to running."""


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """An error as a run record shows it.

    Attributes:
        type: the class name of the error that says most (the driver's, where there is one).
        message: one line, without parameters or secrets.
        sqlstate: the database's code, where there is one.
        traceback: the whole story, bounded in length.
        constraint: the constraint that was violated, where there is one.
    """

    type: str
    message: str
    sqlstate: str | None
    traceback: str
    constraint: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """The `error` member of a run record."""
        return {
            "type": self.type,
            "message": self.message,
            "sqlstate": self.sqlstate,
            "constraint": self.constraint,
            "traceback": self.traceback,
        }


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The job returned and its last transaction committed. `result` is JSON-safe."""

    result: object


@dataclass(frozen=True, slots=True)
class RetryAt:
    """A transient error, or the job's own `Retry`: again at `when`. The attempt counted."""

    when: datetime
    error: ErrorRecord


@dataclass(frozen=True, slots=True)
class Snoozed:
    """The job's own `Snooze`, or a long hold: again at `until`, `reason` says why. The attempt did not count."""

    until: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Interrupted:
    """This worker is stopping: again at once, from the cursor. The attempt did not count."""


@dataclass(frozen=True, slots=True)
class Paused:
    """A person asked for a pause: it waits at its cursor until resumed. The attempt did not count."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A person or the job itself gave the run up. What was committed stays."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A permanent error, or the last attempt's. What was committed stays."""

    error: ErrorRecord


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """A newer claim exists: somebody else goes on with this run, and nothing here may be written down."""


Outcome = Succeeded | RetryAt | Snoozed | Interrupted | Paused | Cancelled | Failed | LeaseLost
"""The closed set. `match` on it ends with `assert_never`."""

STATUS_AFTER: dict[type[Outcome], Status] = {
    Succeeded: Status.SUCCEEDED,
    RetryAt: Status.WAITING,
    Snoozed: Status.WAITING,
    Interrupted: Status.QUEUED,
    Paused: Status.PAUSED,
    Cancelled: Status.CANCELLED,
    Failed: Status.FAILED,
    LeaseLost: Status.RUNNING,
}
"""The run's status after each outcome; after a lost lease it is whatever the newer claim makes it."""
