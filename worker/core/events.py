"""What happens to runs, as values: the one seam of logging, metrics and tests.

Owns the vocabulary. Refuses to format or to store: listeners do.
"""

from collections.abc import Callable
from dataclasses import dataclass

from worker.core.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class RunClaimed:
    """A worker took a run. `crashes` counts earlier claims that ended without an outcome."""

    run_id: str
    job: str
    fence: int
    chunk: int
    crashes: int


@dataclass(frozen=True, slots=True)
class ChunkCommitted:
    """A chunk is in the database. `took_ms` is from its first statement to the end of COMMIT."""

    run_id: str
    job: str
    chunk: int
    rows: int
    took_ms: float
    next_rows: int


@dataclass(frozen=True, slots=True)
class StartedOver:
    """A transient error was met in place: the attempt went on from its cursor after a pause."""

    run_id: str
    job: str
    kind: str
    error: str
    sqlstate: str | None
    pause_s: float


@dataclass(frozen=True, slots=True)
class RunHeld:
    """The database has been under pressure for a while: the run waits between two chunks, or goes on more slowly."""

    run_id: str
    job: str
    reason: str
    waits: bool


@dataclass(frozen=True, slots=True)
class RunReleased:
    """The pressure that a `RunHeld` told of is gone; it lasted for `held_ms`."""

    run_id: str
    job: str
    held_ms: float


@dataclass(frozen=True, slots=True)
class IndicatorLeftOut:
    """An indicator of pressure is not looked at any more: this role may not read it, or this server has none of it."""

    indicator: str
    error: str


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt ended."""

    run_id: str
    job: str
    fence: int
    outcome: Outcome
    took_ms: float


@dataclass(frozen=True, slots=True)
class OutcomeNotSaved:
    """The ledger could not be told how an attempt ended; the next claim finds the run at its cursor."""

    run_id: str
    job: str
    outcome: Outcome
    error: str


Event = (
    RunClaimed
    | ChunkCommitted
    | StartedOver
    | RunHeld
    | RunReleased
    | IndicatorLeftOut
    | AttemptEnded
    | OutcomeNotSaved
)
"""The closed vocabulary."""

Listener = Callable[[Event], None]
"""Told of every event, in order, on the worker's event loop. Must be quick and must not raise."""
