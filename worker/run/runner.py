"""One attempt, start to finish: claim, run chunks, classify, decide, persist, emit.

Owns the order of these steps; each is somebody else's function or a short one here. The only place in Heavylift that
catches `Exception`.
"""

import asyncio
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from worker.core.clock import Clock
from worker.core.errors import Control, ErrorKind, StaleFenceError
from worker.core.events import AttemptEnded, Listener, RunClaimed, StartedOver
from worker.core.outcomes import ErrorRecord, Failed, Interrupted, LeaseLost, Outcome, Succeeded
from worker.core.retry import decide, in_place_pause_s
from worker.core.settings import Settings
from worker.database.claims import Claimed, Delivery, NotClaimable
from worker.database.classify import classify, describe
from worker.database.ledger import Ledger
from worker.declare.registry import Registry
from worker.declare.tables import Tables
from worker.run.attempt import Attempt, stored_outcome
from worker.run.cancellation import is_cancelled
from worker.run.governor import Governor
from worker.run.persist import Persister
from worker.run.stop_signal import StopSignal
from worker.run.upkeep import HeldRuns

SMALLER_AFTER = frozenset({ErrorKind.OVERLOAD, ErrorKind.CONTENTION})
"""Troubles that a smaller chunk meets less often."""


SUSPECT_AFTER = 3
"""From how many crashes in a row, without a committed chunk, a run is suspected of being their cause."""

SUSPECT_PAUSE_S = 1.0
"""How long a suspected run waits at most before it begins, in seconds."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that a go at a run ended with, judged."""

    error: Exception
    kind: ErrorKind
    record: ErrorRecord


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs deliveries on one worker.

    Attributes:
        ledger: where runs are claimed and ended.
        registry: the jobs that exist.
        tables: the tables that jobs may touch.
        settings: the worker's.
        stop: set when the worker is to stop.
        clock: time and chance.
        emit: told of what happens.
        log: what jobs' own loggers are bound to.
        held_runs: asks the queue which runs it knows; None where there is no queue to ask.
        governor: watches the database for all runs of the worker; None leaves them alone.
    """

    ledger: Ledger
    registry: Registry
    tables: Tables
    settings: Settings
    stop: StopSignal
    clock: Clock
    emit: Listener
    log: FilteringBoundLogger
    held_runs: HeldRuns | None = None
    governor: Governor | None = None

    async def run(self, delivery: Delivery) -> Outcome:
        """One attempt of a delivered run.

        Returns:
            How it ended. The delivery of a finished run ends as the run did, without running anything.

        Raises:
            asyncio.CancelledError: this task was cancelled; the run was put back at its cursor first.
            Exception: the claim itself failed, with whatever the database raised: nothing has happened then.
        """
        (claim,) = await self.ledger.claim([delivery])
        return stored_outcome(claim) if isinstance(claim, NotClaimable) else await self.attempt(claim)

    async def attempt(self, claimed: Claimed) -> Outcome:
        """One attempt of a claimed run; see `run`."""
        began = self.clock.monotonic_ms()
        fence = claimed.fence
        self.emit(RunClaimed(fence.run_id, claimed.job, fence.number, claimed.progress.chunk, claimed.crashes))
        attempt = Attempt(
            claimed,
            self.ledger,
            self.tables,
            self.settings,
            self.stop,
            self.clock,
            self.emit,
            self.log,
            self.held_runs,
            self.governor,
        )
        outcome = await self._run_to_outcome(attempt)
        if not isinstance(outcome, Succeeded | LeaseLost):
            persister = Persister(self.ledger, self.clock, self.stop, self.emit)
            # a cancelled task still writes down how its attempt ended: the run must not look like a crash
            outcome = await asyncio.shield(asyncio.ensure_future(persister.persist(attempt.claimed, outcome)))
        took_ms = self.clock.monotonic_ms() - began
        self.emit(AttemptEnded(fence.run_id, claimed.job, attempt.claimed.fence.number, outcome, took_ms))
        if isinstance(outcome, Interrupted) and is_cancelled():
            raise asyncio.CancelledError
        return outcome

    async def _run_to_outcome(self, attempt: Attempt) -> Outcome:
        """Go at the run until there is an outcome; after short troubles again in place, from the cursor."""
        if attempt.claimed.crash_streak >= self.settings.max_crashes:
            return Failed(_poison(attempt.claimed))
        if await self._waits_as_a_suspect(attempt.claimed):
            return Interrupted()
        trouble: Failure | None = None
        tries = 0
        while True:
            committed = attempt.committed
            gone_at = await self._go(attempt, trouble)
            if not isinstance(gone_at, Failure):
                return gone_at
            tries = 1 if attempt.committed > committed else tries + 1
            pause_s = self._pause_s(gone_at, tries)
            if pause_s is None:
                return self._decide(attempt, gone_at)
            trouble = gone_at
            self._tell(attempt.claimed, trouble, pause_s)
            if await self._stops_within(pause_s):
                return Interrupted()

    async def _waits_as_a_suspect(self, claimed: Claimed) -> bool:
        """Let chance decide who begins first, of runs whose worker has died again and again; whether it is to stop.

        One of them kills the worker. An innocent one that begins before it commits a chunk, and is none any more.
        """
        if claimed.crash_streak < SUSPECT_AFTER:
            return False
        return await self._stops_within(self.clock.rand() * SUSPECT_PAUSE_S)

    async def _stops_within(self, seconds: float) -> bool:
        """Pause; whether the attempt is to stop, because the worker does or because this task was cancelled."""
        try:
            return await self.stop.sleep(seconds)
        except asyncio.CancelledError:
            # an interruption that is written down, and not a crash
            return True

    async def _go(self, attempt: Attempt, trouble: Failure | None) -> Outcome | Failure:
        """One go: settle what the last trouble left in doubt, then run the job."""
        try:
            if trouble is not None:
                ended = await attempt.settle(smaller=trouble.kind in SMALLER_AFTER, reconnect=_wrong_server(trouble))
                if ended is not None:
                    return ended
            return await attempt.go(self.registry.get(attempt.claimed.job))
        except asyncio.CancelledError:
            return Interrupted()
        except Exception as error:  # noqa: BLE001 - the one place: whatever a job raises becomes an outcome
            table = self.ledger.database.dialect.errors
            return Failure(error, classify(error, table), describe(error, table.code_of))

    def _pause_s(self, failure: Failure, tries: int) -> float | None:
        if isinstance(failure.error, Control | StaleFenceError):
            return None
        return in_place_pause_s(failure.kind, tries - 1, self.clock.rand())

    def _decide(self, attempt: Attempt, failure: Failure) -> Outcome:
        claimed = attempt.claimed
        spec = self.registry.specs.get(claimed.job)
        return decide(
            failure.error,
            failure.kind,
            failure.record,
            failures=0 if attempt.committed else claimed.failures,
            policy=self.settings.retry_policy(spec.max_attempts if spec else None),
            now=self.clock.now(),
            rand=self.clock.rand(),
        )

    def _tell(self, claimed: Claimed, trouble: Failure, pause_s: float) -> None:
        record = trouble.record
        said = f"{record.type}: {record.message}"
        self.emit(StartedOver(claimed.fence.run_id, claimed.job, trouble.kind, said, record.sqlstate, pause_s))


def _poison(claimed: Claimed) -> ErrorRecord:
    message = (
        f"The worker died with this run {claimed.crash_streak} times in a row without committing a chunk "
        f"(it stands at chunk {claimed.progress.chunk}). See what killed it (memory? a crash in a driver?), then: "
        f"heavylift retry {claimed.fence.run_id}"
    )
    return ErrorRecord(type="WorkerCrashed", message=message, sqlstate=None, traceback="")


def _wrong_server(failure: Failure) -> bool:
    # a lost connection is replaced by itself; one that answers, but not as a primary does, must be given up
    lost = getattr(failure.error, "connection_invalidated", False)
    return failure.kind is ErrorKind.CONNECTION and not lost
