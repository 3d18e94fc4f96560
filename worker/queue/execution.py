"""One delivery of a job as arq means it: read, run under its timeout, and its end translated into an `Ending`.

Owns arq's words for what a job's end means (`Retry`, `RetryJob`, a cancellation, any other error), its counters' names
and its log lines. Refuses I/O: whoever runs it writes the ending.
"""

import asyncio
import logging
import sys
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Protocol

import arq.worker as arq_worker
from arq.jobs import Serializer, deserialize_job_raw, serialize_result
from arq.utils import args_to_string, ms_to_datetime, timestamp_ms, truncate
from arq.worker import Function, JobExecutionFailed, Retry, RetryJob

from worker.queue.step import Ending, Kind, Taken

logger = logging.getLogger("arq.worker")

DELAY_SHOWN_MS: Final = 1200
"""From which delay arq's line on a start tells it, in ms."""

ABORTED_WHILE_DEFERRED_MS: Final = 1
"""The due time, in ms since 1970, that arq gives a deferred job that is to be aborted, before it says so."""

ABORT_SKEW_MS: Final = 1_000
"""How much earlier than a job's enqueueing its abortion may seem to be, in ms: two clients' clocks differ."""


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


class Verdict(StrEnum):
    """How a delivery counts: the names of arq's counters."""

    COMPLETE = "complete"
    FAILED = "failed"
    RETRIED = "retried"


@dataclass(slots=True)
class Delivered:
    """A claimed delivery whose payload was read.

    Attributes:
        taken: as claimed.
        name: the function's name; `<unknown>` where nothing could be read.
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
    name: str = "<unknown>"
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
    most = _of(delivered, "max_tries", policy.max_tries)
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


async def run(delivered: Delivered, context: dict[str, Any], policy: Policy) -> object:
    """Run a delivery's function under its timeout; whatever it raises is raised.

    Raises:
        arq.worker.JobExecutionFailed: this worker does not know the function.
    """
    function = delivered.function
    if function is None:
        raise JobExecutionFailed(f"function {delivered.name!r} not found")
    delivered.began_ms = timestamp_ms()
    if logger.isEnabledFor(logging.INFO):
        _log_start(delivered)
    try:
        async with asyncio.timeout(delivered.timeout_s(policy.job_timeout_s)):
            result = await function.coroutine(context, *delivered.args, **delivered.kwargs)
    finally:
        # arq lets an error bring what is logged with it; a fault in that is the job's, as one in a result's repr is
        extra = getattr(sys.exc_info()[1], "extra", None)
        delivered.extra = extra() if callable(extra) else extra
    if result is not None and policy.log_results and logger.isEnabledFor(logging.INFO):
        delivered.said = truncate(repr(result))
    return result


def conclude(
    delivered: Delivered, error: BaseException | None, result: object, policy: Policy
) -> tuple[Verdict, Ending]:
    """What a delivery's end means.

    Args:
        delivered: it.
        error: what it raised; None where it returned.
        result: what it returned.
        policy: the worker's.

    Returns:
        How it counts, and its ending.
    """
    took_s = (timestamp_ms() - delivered.began_ms) / 1000
    # read when it is needed, from where arq keeps it: its own tests change it there
    keep_s: float = arq_worker.keep_cronjob_progress  # type: ignore[attr-defined] # arq does not list it as exported
    keep_ms = round(keep_s * 1000) if delivered.is_cron else 0
    if error is None:
        logger.info("%6.2fs ← %s ● %s", took_s, delivered.ref, delivered.said)
        return Verdict.COMPLETE, finish(delivered, result, policy, success=True, keep_lease_ms=keep_ms)
    if policy.retry_jobs and isinstance(error, Retry):
        return _retry(delivered, error, policy, took_s, keep_ms)
    if isinstance(error, asyncio.CancelledError) and delivered.aborting:
        logger.info("%6.2fs ⊘ %s aborted", took_s, delivered.ref)
        return Verdict.FAILED, finish(delivered, error, policy, success=False, keep_lease_ms=keep_ms)
    if policy.retry_jobs and isinstance(error, asyncio.CancelledError | RetryJob):
        logger.info("%6.2fs ↻ %s cancelled, will be run again", took_s, delivered.ref)
        return Verdict.RETRIED, put_back(delivered, counted=not delivered.stopping)
    kind, extra = type(error).__name__, {"extra": delivered.extra}
    logger.error("%6.2fs ! %s failed, %s: %s", took_s, delivered.ref, kind, error, exc_info=error, extra=extra)
    return Verdict.FAILED, finish(delivered, error, policy, success=False, keep_lease_ms=keep_ms)


def finish(delivered: Delivered, result: object, policy: Policy, *, success: bool, keep_lease_ms: int = 0) -> Ending:
    """The ending of a delivery that is over."""
    for_ever = bool(_of(delivered, "keep_result_forever", policy.keep_result_forever))
    keep_s = _of(delivered, "keep_result_s", policy.keep_result_s) or 0
    written = b""
    if for_ever or keep_s > 0:
        written = (
            serialize_result(
                delivered.name,
                delivered.args,
                delivered.kwargs,
                delivered.tries,
                delivered.enqueued_ms,
                success,
                result,
                delivered.began_ms,
                timestamp_ms(),
                delivered.ref,
                policy.queue_name,
                job_id=delivered.run_id,
                serializer=policy.job_serializer,
            )
            or b""
        )
    return Ending(
        delivered.run_id,
        delivered.taken.score,
        Kind.FINISH,
        written,
        0 if for_ever else max(1, round(keep_s * 1000)),
        keep_lease_ms=keep_lease_ms,
    )


def put_back(delivered: Delivered, *, counted: bool, again_ms: int = 0) -> Ending:
    """The ending of a delivery that comes again."""
    return Ending(
        delivered.run_id,
        delivered.taken.score,
        Kind.SPENT if counted else Kind.UNSPENT,
        again_ms=max(0, again_ms),
        tries=delivered.tries if counted and delivered.tries > delivered.taken.tries else 0,
    )


def _retry(delivered: Delivered, error: Retry, policy: Policy, took_s: float, keep_ms: int) -> tuple[Verdict, Ending]:
    defer_ms = error.defer_score or 0
    most = _of(delivered, "max_tries", policy.max_tries)
    if error.__cause__ is not None and delivered.tries >= most:
        # the next delivery could only say that there were too many; this one still knows of what
        logger.error("%6.2fs ! %s max retries %d exceeded", took_s, delivered.ref, most, exc_info=error.__cause__)
        return Verdict.FAILED, finish(delivered, error.__cause__, policy, success=False, keep_lease_ms=keep_ms)
    logger.info("%6.2fs ↻ %s retrying job in %0.2fs", took_s, delivered.ref, defer_ms / 1000)
    return Verdict.RETRIED, put_back(delivered, counted=True, again_ms=defer_ms)


def _of(delivered: Delivered, name: str, default: Any) -> Any:  # noqa: ANN401 - arq's attributes
    own = getattr(delivered.function, name, None)
    return default if own is None else own


def _log_start(delivered: Delivered) -> None:
    extra = f" try={delivered.tries}" if delivered.tries > 1 else ""
    late_ms = delivered.began_ms - delivered.taken.due_ms
    if late_ms > DELAY_SHOWN_MS:
        extra += f" delayed={late_ms / 1000:0.2f}s"
    said = args_to_string(delivered.args, delivered.kwargs)
    waited_s = (delivered.began_ms - delivered.enqueued_ms) / 1000
    logger.info("%6.2fs → %s(%s)%s", waited_s, delivered.ref, said, extra)
