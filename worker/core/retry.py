"""When a run is tried again: the pure decision, and the backoff behind it.

Owns the whole retry policy. Refuses to look at a clock, to roll dice or to know a database: kind, time and
randomness are passed in.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.core.errors import Cancel, ErrorKind, Retry, Snooze, StaleFenceError, Stop
from worker.core.outcomes import (
    Cancelled,
    ErrorRecord,
    Failed,
    Interrupted,
    LeaseLost,
    Outcome,
    Paused,
    RetryAt,
    Snoozed,
)

IN_PLACE_TRIES = 6
"""How often in a row, without a committed chunk between, one attempt starts over in place before it ends."""

IN_PLACE_BASE_S = 0.05
"""First pause in place. Six of them, doubled, sum to about three seconds at most: longer waits free the worker."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently a run is tried again through the queue.

    Attributes:
        max_attempts: attempts that may end in an error, counted since the last committed chunk; at least 1.
        base_s: the most seconds before the second attempt.
        cap_s: the most seconds before any attempt.
    """

    max_attempts: int = 5
    base_s: float = 1.0
    cap_s: float = 300.0


def backoff_s(failures: int, base_s: float, cap_s: float, rand: float) -> float:
    """Exponential backoff with full jitter: a random share of `base * 2^(failures-1)`, capped.

    Full jitter spreads a herd best for the least total work (Marc Brooker, "Exponential Backoff And Jitter",
    AWS Architecture Blog, 2015).

    Args:
        failures: how many attempts have failed so far, at least 1.
        base_s: the ceiling after the first failure, in seconds.
        cap_s: the ceiling that is never passed, in seconds.
        rand: uniform in [0, 1).

    Returns:
        Seconds, in [0, cap_s].
    """
    # 2.0 ** 1024 overflows; far below that the cap has long decided
    ceiling = min(cap_s, base_s * 2.0 ** min(failures - 1, 60))
    return ceiling * rand


def in_place_pause_s(kind: ErrorKind, tries: int, rand: float) -> float | None:
    """How long to pause before starting over in the same attempt, or None to end the attempt.

    Args:
        kind: what the error calls for.
        tries: how often in a row it has started over already, without a committed chunk between.
        rand: uniform in [0, 1).
    """
    if not kind.transient or kind is ErrorKind.EXHAUSTED or tries >= IN_PLACE_TRIES:
        return None
    return backoff_s(tries + 1, IN_PLACE_BASE_S, IN_PLACE_BASE_S * 2.0**IN_PLACE_TRIES, rand)


def decide(
    error: Exception,
    kind: ErrorKind,
    record: ErrorRecord,
    *,
    failures: int,
    policy: RetryPolicy,
    now: datetime,
    rand: float,
) -> Outcome:
    """What follows from an error that ended an attempt.

    Args:
        error: what was raised.
        kind: its kind.
        record: it, as the run record will show it.
        failures: earlier attempts that ended in an error since the last committed chunk.
        policy: the job's policy.
        now: aware.
        rand: uniform in [0, 1).
    """
    chosen = _asked_for(error, now)
    if chosen is not None:
        return chosen
    asks_again = isinstance(error, Retry)
    if failures + 1 >= policy.max_attempts or not (asks_again or kind.transient):
        return Failed(record)
    asked_s = error.after_s if isinstance(error, Retry) else None
    delay_s = _delay_s(kind, failures + 1, policy, rand) if asked_s is None else asked_s
    return RetryAt(now + timedelta(seconds=delay_s), record)


_STOPPED: dict[str, Outcome] = {
    "interrupt": Interrupted(),
    "pause": Paused(),
    "cancel": Cancelled("cancelled on request"),
}


def _asked_for(error: Exception, now: datetime) -> Outcome | None:
    """The outcome that a control exception names by itself, whatever the policy; None for any other error."""
    match error:
        case StaleFenceError():
            return LeaseLost()
        case Cancel(reason=reason):
            return Cancelled(reason)
        case Snooze(until=until, reason=reason):
            return Snoozed(until if isinstance(until, datetime) else now + until, reason)
        case Stop(why=why):
            return _STOPPED[why]
        case _:
            return None


def _delay_s(kind: ErrorKind, failures: int, policy: RetryPolicy, rand: float) -> float:
    if kind is ErrorKind.EXHAUSTED:
        # a person has to free something: asking often does not help, so the upper half of the longest pause
        return policy.cap_s * (1.0 + rand) / 2.0
    return backoff_s(failures, policy.base_s, policy.cap_s, rand)
