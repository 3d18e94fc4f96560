"""One delivery run under its timeout, and its end translated into an `Ending`.

Owns arq's words for what a job's end means (`Retry`, `RetryJob`, a cancellation, any other error) and its log lines.
Refuses I/O: whoever runs it writes the ending.
"""

import asyncio
import logging
import sys
from enum import StrEnum
from typing import Any, Final

import arq.worker as arq_worker
from arq.jobs import serialize_result
from arq.utils import args_to_string, timestamp_ms, truncate
from arq.worker import JobExecutionFailed, Retry, RetryJob

from worker.queue.delivered import Delivered, Policy
from worker.queue.step import Ending, Kind

logger = logging.getLogger("arq.worker")

DELAY_SHOWN_MS: Final = 1200
"""From which delay arq's line on a start tells it, in ms."""


class Verdict(StrEnum):
    """How a delivery counts: the names of arq's counters."""

    COMPLETE = "complete"
    FAILED = "failed"
    RETRIED = "retried"


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
    # cancelled by this worker's end it was interrupted, whatever else was asked for: the next delivery is aborted
    if isinstance(error, asyncio.CancelledError) and delivered.aborting and not delivered.stopping:
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
    for_ever = bool(delivered.own("keep_result_forever", policy.keep_result_forever))
    keep_s = delivered.own("keep_result_s", policy.keep_result_s) or 0
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
    most = delivered.own("max_tries", policy.max_tries)
    if error.__cause__ is not None and delivered.tries >= most:
        # the next delivery could only say that there were too many; this one still knows of what
        logger.error("%6.2fs ! %s max retries %d exceeded", took_s, delivered.ref, most, exc_info=error.__cause__)
        return Verdict.FAILED, finish(delivered, error.__cause__, policy, success=False, keep_lease_ms=keep_ms)
    logger.info("%6.2fs ↻ %s retrying job in %0.2fs", took_s, delivered.ref, defer_ms / 1000)
    return Verdict.RETRIED, put_back(delivered, counted=True, again_ms=defer_ms)


def _log_start(delivered: Delivered) -> None:
    extra = f" try={delivered.tries}" if delivered.tries > 1 else ""
    late_ms = delivered.began_ms - delivered.taken.due_ms
    if late_ms > DELAY_SHOWN_MS:
        extra += f" delayed={late_ms / 1000:0.2f}s"
    said = args_to_string(delivered.args, delivered.kwargs)
    waited_s = (delivered.began_ms - delivered.enqueued_ms) / 1000
    logger.info("%6.2fs → %s(%s)%s", waited_s, delivered.ref, said, extra)
