"""A claimed delivery whose payload was read: what is to be run, with what, and whether it may begin at all.

Owns the reading of arq's job dictionary, and arq's reasons to refuse one. Refuses I/O.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from arq.jobs import Serializer, deserialize_job_raw
from arq.utils import ms_to_datetime, timestamp_ms
from arq.worker import Function, JobExecutionFailed

from worker.queue.step import Taken

logger = logging.getLogger("arq.worker")

ABORTED_WHILE_DEFERRED_MS: Final = 1
"""The due time, in ms since 1970, that arq gives a deferred job that is to be aborted, before it says so."""

ABORT_SKEW_MS: Final = 1_000
"""How much earlier than a job's enqueueing its abortion may seem to be, in ms: two clients' clocks differ."""

UNREAD: Final = "<unknown>"
"""What a delivery is called whose payload could not be read."""


class Policy(Protocol):
    """What of arq's worker an end depends on; `arq.worker.Worker`'s own attributes."""

    functions: dict[str, Any]
    job_timeout_s: float | None
    keep_result_s: float | None
    keep_result_forever: bool
    max_tries: int
    retry_jobs: bool
    log_results: bool
    queue_name: str
    allow_abort_jobs: bool
    job_serializer: Serializer | None


@dataclass(slots=True)
class Delivered:
    """A claimed delivery whose payload was read.

    Attributes:
        taken: as claimed.
        name: the function's name; `UNREAD` where nothing could be read.
        args: its positional arguments.
        kwargs: its keyword arguments.
        enqueued_ms: arq's enqueue time, in ms since 1970.
        tries: which try this is, from 1; a payload may say more than Redis has counted.
        function: what is to be run; None where this worker does not know it.
        began_ms: when it began, in ms since 1970.
        aborting: whether it is to end as aborted.
        stopping: whether this worker has cancelled it for its own end.
        said: its result, for the log.
        extra: what its error wants to have logged beside it.
    """

    taken: Taken
    name: str = UNREAD
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    enqueued_ms: int = 0
    tries: int = 1
    function: Function | None = None
    began_ms: int = 0
    aborting: bool = False
    stopping: bool = False
    said: str = ""
    extra: object = None

    @property
    def run_id(self) -> str:
        """The arq job id."""
        return self.taken.run_id

    @property
    def is_cron(self) -> bool:
        """Whether it is a tick of one of arq's cron jobs."""
        return hasattr(self.function, "next_run")

    @property
    def ref(self) -> str:
        """What arq's log lines call it."""
        return self.name if self.is_cron else f"{self.run_id}:{self.name}"

    def timeout_s(self, default_s: float | None) -> float | None:
        """How long it may take, in seconds; None for no end."""
        own: float | None = getattr(self.function, "timeout_s", None)
        return default_s if own is None else own

    def own(self, name: str, default: Any) -> Any:  # noqa: ANN401 - arq's attributes
        """What its function says of something, or the worker's word for it."""
        found = getattr(self.function, name, None)
        return default if found is None else found

    def context(self) -> dict[str, object]:
        """What arq adds to the context of this delivery."""
        return {
            "job_id": self.run_id,
            "job_try": self.tries,
            "enqueue_time": ms_to_datetime(self.enqueued_ms),
            "score": self.taken.due_ms,
        }


def read(taken: Taken, policy: Policy, deserializer: Any) -> Delivered:  # noqa: ANN401 - arq's own type of codecs
    """Read a claimed delivery's payload.

    Raises:
        arq.jobs.DeserializationError: it cannot be read; the cause says why.
    """
    if not taken.payload:
        return Delivered(taken, tries=taken.tries, began_ms=timestamp_ms())
    name, args, kwargs, said_tries, enqueued_ms = deserialize_job_raw(taken.payload, deserializer=deserializer)
    return Delivered(
        taken,
        name,
        tuple(args),
        kwargs,
        enqueued_ms,
        max(taken.tries, said_tries or 0),
        policy.functions.get(name),
        timestamp_ms(),
        aborting=taken.due_ms == ABORTED_WHILE_DEFERRED_MS
        or (policy.allow_abort_jobs and taken.aborted_ms is not None and is_aborted(taken.aborted_ms, enqueued_ms)),
    )


def refusal(delivered: Delivered, policy: Policy, *, aborts: bool) -> BaseException | None:
    """Why a delivery must not begin at all, as arq's own error; None where it may.

    Args:
        delivered: it.
        policy: the worker's.
        aborts: whether its abortion is such a reason; otherwise the job itself sees to that.
    """
    if not delivered.taken.payload:
        logger.warning("job %s expired", delivered.run_id)
        return JobExecutionFailed("job expired")
    if aborts and delivered.aborting:
        waited_s = (timestamp_ms() - delivered.enqueued_ms) / 1000
        logger.info("%6.2fs ⊘ %s:%s aborted before start", waited_s, delivered.run_id, delivered.name)
        return asyncio.CancelledError()
    most = delivered.own("max_tries", policy.max_tries)
    if delivered.tries > most:
        waited_s = (timestamp_ms() - delivered.enqueued_ms) / 1000
        logger.warning("%6.2fs ! %s max retries %d exceeded", waited_s, delivered.ref, most)
        return JobExecutionFailed(f"max {most} retries exceeded")
    return None


def is_aborted(asked_ms: int, enqueued_ms: int) -> bool:
    """Whether a request for abortion, made at a moment, means a job enqueued at another; both in ms since 1970.

    One from before the enqueueing was meant for an earlier use of the id.
    """
    return asked_ms >= enqueued_ms - ABORT_SKEW_MS
