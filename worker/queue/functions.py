"""A job as arq sees it: a function that takes a delivery to the runner and turns the outcome into arq's words.

Owns that translation, both ways. An outcome that is not final becomes arq's `Retry`; one that failed becomes a builtin
exception, which any client can read.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, assert_never

from arq.worker import Function, Retry, RetryJob
from arq.worker import func as arq_function

from worker.core.clock import Clock, to_ms
from worker.core.outcomes import (
    Cancelled,
    Failed,
    Interrupted,
    LeaseLost,
    Outcome,
    Paused,
    RetryAt,
    Snoozed,
    Succeeded,
)
from worker.core.retry import backoff_s
from worker.core.settings import Settings
from worker.database.claims import Claim, Delivery, NotClaimable
from worker.database.classify import classify
from worker.declare.registry import JobSpec
from worker.queue.delivered import Delivered
from worker.queue.in_flight import DELIVERED, PREPARED
from worker.queue.plain_data import json_safe
from worker.run.attempt import stored_outcome
from worker.run.runner import Runner

Claims = Mapping[str, Claim | BaseException]
"""What became of the claims of one step, by run id."""

OPTIONS = "_options"
"""The reserved keyword under which run options travel on arq's wire."""

ALWAYS = 2**31
"""arq's `max_tries`: attempts are counted in the ledger, where an interruption does not count as one."""

PARKED_S = 365 * 24 * 3600.0
"""How far ahead a paused run's delivery is put, in seconds; `resume` brings it back."""


def make_function(spec: JobSpec, runner_of: Callable[[dict[str, Any]], Runner], settings: Settings) -> Function:
    """The arq function of a job.

    Args:
        spec: the job.
        runner_of: finds the worker's runner in arq's context, where the start-up hook put it.
        settings: the queue's name and how long results are kept.
    """

    async def entry(ctx: dict[str, Any], *args: object, **kwargs: object) -> object:
        runner = runner_of(ctx)
        database = runner.ledger.database
        delivered: Delivered | None = ctx.get(DELIVERED)
        try:
            outcome = await _outcome(runner, spec, ctx, args, kwargs)
        except database.raises as error:
            # nothing was claimed: the run stays in the queue and comes again, and no attempt was spent
            if not classify(error, database.dialect.errors).transient:
                raise
            delay_s = backoff_s(ctx["job_try"], settings.backoff_base_s, settings.backoff_cap_s, runner.clock.rand())
            raise Retry(defer=delay_s) from error
        if isinstance(outcome, LeaseLost):
            # all that Redis holds of it is the newer claim's business: our worker writes nothing where it is not the
            # holder; arq's own drops the newer claim's key all the same, and a lease later is the best that is left
            raise Retry(defer=settings.lease_s)
        if isinstance(outcome, Cancelled) and delivered is not None and delivered.aborting:
            # what `Job.abort()` waits for
            raise asyncio.CancelledError
        return answer(outcome, runner.clock)

    entry.__qualname__ = spec.name
    return arq_function(
        entry,
        name=spec.name,
        # ours ends first and says more; arq needs one, or its in-progress key would live ten seconds
        timeout=spec.timeout_s + settings.grace_s + 60,
        keep_result=settings.keep_result_s,
        max_tries=ALWAYS,
    )


def answer(outcome: Outcome, clock: Clock) -> object:
    """What arq is told of an outcome.

    Returns:
        The result of a run that succeeded.

    Raises:
        Retry: it is not over; arq delivers it again when it is due.
        RetryJob: it is to be delivered again at once, or left to whoever holds it.
        Exception: it failed or was cancelled; a builtin type, so that any client can read it.
    """
    match outcome:
        case Succeeded(result):
            return result
        case RetryAt(when) | Snoozed(when):
            raise Retry(defer=_seconds_until(when, clock))
        case Interrupted():
            raise RetryJob
        case Paused() | LeaseLost():
            # parked in the queue, so that a client waiting for the result goes on waiting
            raise Retry(defer=PARKED_S)
        case Cancelled(reason):
            # a CancelledError would make arq deliver it again
            raise RuntimeError(f"cancelled: {reason}")
        case Failed(error):
            raise RuntimeError(f"{error.type}: {error.message}")
        case _:
            assert_never(outcome)


def _seconds_until(when: datetime, clock: Clock) -> float:
    # arq takes a defer of zero for none at all, and would leave the score where it is: in the past, which is "now"
    return max(0.0, (to_ms(when) - to_ms(clock.now())) / 1000)


async def _outcome(
    runner: Runner, spec: JobSpec, ctx: dict[str, Any], args: tuple[object, ...], kwargs: dict[str, object]
) -> Outcome:
    """Run a delivery that was claimed with the others of its step, or, on arq's own worker, claim it alone."""
    claiming: asyncio.Future[Claims] | None = ctx.get(PREPARED)
    if claiming is None:
        return await runner.run(delivery_of(spec, ctx["job_id"], ctx["enqueue_time"], args, kwargs, runner.settings))
    delivered: Delivered = ctx[DELIVERED]
    claim = await _claimed(claiming, delivered.run_id)
    if isinstance(claim, NotClaimable):
        return stored_outcome(claim)
    if delivered.aborting:
        claim.wanted = "cancel"
    return await runner.attempt(claim)


async def _claimed(claiming: "asyncio.Future[Claims]", run_id: str) -> Claim:
    task = asyncio.current_task()
    try:
        claims = await asyncio.shield(claiming)
    except asyncio.CancelledError:
        # a claim under way is waited for, or the run would look as if its worker had crashed
        await asyncio.wait({claiming})
        claims = claiming.result()
        if task is not None:
            # the attempt ends at its first await, as interrupted
            task.cancel()
    found = claims[run_id]
    if isinstance(found, BaseException):
        raise found
    return found


def delivery_of(
    spec: JobSpec,
    run_id: str,
    enqueued: datetime,
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
    settings: Settings,
) -> Delivery:
    """A delivery, as the ledger means it.

    Args:
        spec: the job.
        run_id: the arq job id.
        enqueued: arq's enqueue time, aware.
        args: as they came over the wire.
        kwargs: likewise.
        settings: the queue's name.

    Raises:
        PayloadError: a parameter is no plain data.
    """
    named = dict(kwargs)
    options = named.pop(OPTIONS, None)
    return Delivery(
        run_id=run_id,
        job=spec.name,
        # a pickle may carry dates and decimals, which the ledger keeps as JSON does; validation reads them back
        params=json_safe(spec.bind(args, named)),
        options=json_safe(options) if isinstance(options, dict) else {},
        queue=settings.queue,
        enqueued_ms=to_ms(enqueued),
    )
