"""The values of enqueueing and claiming: what a delivery asks for, what a claim hands out, and what is put aside.

Owns their shape. Refuses SQL: each dialect's claim statement fills them.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from worker.core.outcomes import Status
from worker.core.progress import Progress

UNREADABLE: Final = "(unreadable)"
"""The job, in the ledger, of a run whose payload nobody has been able to read yet."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A run as the queue delivered it.

    Attributes:
        run_id: the arq job id.
        job: the job's name.
        params: JSON-safe parameters by name.
        options: run options.
        queue: the queue it came from.
        enqueued_ms: arq's enqueue time: which use of the id this is.
    """

    run_id: str
    job: str
    params: dict[str, object]
    options: dict[str, object]
    queue: str
    enqueued_ms: int


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms runs are enqueued.

    Attributes:
        due_at: when they may start; None for at once.
        enqueued_by: who asks for them; None where nobody said.
    """

    due_at: datetime | None = None
    enqueued_by: str | None = None

    @property
    def status(self) -> Status:
        """What they are until somebody claims them."""
        return Status.WAITING if self.due_at else Status.QUEUED

    @property
    def waiting_for(self) -> str | None:
        """Why they wait."""
        return f"deferred until {self.due_at.isoformat(timespec='seconds')}" if self.due_at else None


@dataclass(frozen=True, slots=True)
class PutAside:
    """A delivery that cannot begin on this worker, though it may on another.

    Attributes:
        delivery: it; of the job `UNREADABLE`, without parameters, where its payload could not be read.
        reason: why, for people.
    """

    delivery: Delivery
    reason: str


@dataclass(frozen=True, slots=True)
class Fence:
    """The right to commit chunks of a run: valid while no newer claim exists.

    Attributes:
        run_id: the run.
        number: grows by one with each claim.
        token: random; no two claims share one, whatever happens to the numbers.
    """

    run_id: str
    number: int
    token: str


@dataclass(frozen=True, slots=True)
class Held:
    """What a worker finds that still holds a run.

    Attributes:
        wanted: `pause` or `cancel` where a person asked for it meanwhile; None for nothing.
    """

    wanted: str | None


@dataclass(slots=True)
class Claimed:
    """A run that this worker may go on with.

    Attributes:
        fence: its right to commit.
        params: as the ledger has them.
        progress: where the run stands.
        attempts: attempts that have ended and counted.
        failures: attempts that ended in an error since the last committed chunk.
        crashes: claims that ended without an outcome.
        crash_streak: those in a row without a committed chunk.
        wanted: `pause` or `cancel` where a person asked for it and no chunk has obeyed yet.
        started_at: when the run first started.
        claimed_at: when this claim was made.
        enqueued_by: who asked for the run; None where nobody said.
    """

    fence: Fence
    job: str
    params: dict[str, object]
    options: dict[str, object]
    progress: Progress
    attempts: int
    failures: int
    crashes: int
    crash_streak: int
    wanted: str | None
    started_at: datetime
    claimed_at: datetime
    enqueued_by: str | None = None


@dataclass(frozen=True, slots=True)
class NotClaimable:
    """A run that nobody works on now: finished, or paused.

    Attributes:
        run_id: the run.
        status: succeeded, failed, cancelled or paused.
        enqueued_ms: the ledger's enqueue time: a later delivery is a new use of the id.
        result: of a succeeded run.
        error: of a failed one, as the run record has it.
    """

    run_id: str
    status: Status
    enqueued_ms: int
    result: object = None
    error: dict[str, str | None] | None = field(default=None)


Claim = Claimed | NotClaimable
