"""One go at a claimed run: its session, its context, its function, and its success committed with the last rows.

Owns what lies between a claim and an outcome when all goes well, and the settling when the last go did not. Refuses
to catch: errors are the runner's.
"""

import asyncio
from contextlib import aclosing

from structlog.typing import FilteringBoundLogger

from worker.core.chunk_size import after_overload
from worker.core.clock import Clock
from worker.core.errors import AttemptTimeoutError, StaleFenceError
from worker.core.events import Event, Listener
from worker.core.options import RunOptions
from worker.core.outcomes import Cancelled, ErrorRecord, Failed, Outcome, Paused, Status, Succeeded
from worker.core.settings import Settings
from worker.database.claims import Claimed, NotClaimable
from worker.database.ledger import Ledger
from worker.database.session import RunSession, open_session
from worker.declare.context import JobContext
from worker.declare.registry import JobSpec
from worker.declare.tables import Tables
from worker.run.brake import Brake
from worker.run.chunks import ChunkLoop
from worker.run.governor import Governor
from worker.run.job_tools import JobTools
from worker.run.stop_signal import StopSignal
from worker.run.upkeep import HeldRuns


class Attempt:
    """A claimed run on its way to an outcome.

    Attributes:
        claimed: the run as this worker holds it; replaced when it is claimed anew after a trouble.
        committed: how many chunks this attempt has committed for certain.
    """

    def __init__(
        self,
        claimed: Claimed,
        ledger: Ledger,
        tables: Tables,
        settings: Settings,
        stop: StopSignal,
        clock: Clock,
        emit: Listener,
        log: FilteringBoundLogger,
        held_runs: HeldRuns | None = None,
        governor: Governor | None = None,
    ) -> None:
        self.claimed = claimed
        self.committed = 0
        self._ledger = ledger
        self._tables = tables
        self._settings = settings
        self._stop = stop
        self._clock = clock
        self._emit = emit
        self._log = log
        self._held_runs = held_runs
        self._governor = governor

    async def settle(self, *, smaller: bool, reconnect: bool) -> Outcome | None:
        """After a trouble: claim the run anew, which also tells what became of a COMMIT whose reply was lost.

        Args:
            smaller: go on with chunks of half the size.
            reconnect: give up pooled connections first: some may lead to a server that is primary no more.

        Returns:
            What the run ended as, where the lost COMMIT had ended it; None where it goes on.

        Raises:
            StaleFenceError: a newer claim holds the run.
        """
        if reconnect:
            await self._ledger.database.reconnect()
        aimed = self.claimed.progress.chunk_rows
        settled = await self._ledger.settle(self.claimed)
        if isinstance(settled, NotClaimable):
            return stored_outcome(settled)
        if smaller:
            settled.progress.chunk_rows = after_overload(aimed, self._settings.chunk_bounds)
        self.claimed = settled
        return None

    async def go(self, spec: JobSpec) -> Outcome:
        """Run the job from its cursor to its end.

        Args:
            spec: the run's job.

        Raises:
            AttemptTimeoutError: it took longer than the job may.
            Exception: whatever the job or the database raised.
        """
        claimed = self.claimed
        parameters, options = spec.validate(claimed.params), RunOptions.parse(claimed.options)
        if spec.check is not None:
            # enqueued past our client, nothing has looked at it yet
            spec.check(parameters, self._tables, self._settings, options)
        async with (
            open_session(self._ledger.database, self._settings) as session,
            Brake(claimed, self._governor, self._ledger, self._stop, self._clock, self._emit) as brake,
            aclosing(self._chunk_loop(session, brake)) as loop,
        ):
            loop.check_wanted()
            context = self._context(session, loop, options)
            outcome = Succeeded(spec.serialise_result(await self._call(spec, context, dict(parameters))))
            claimed.progress.total = claimed.progress.done
            if not await session.end_with(self._ledger.ending(claimed, outcome)):
                raise StaleFenceError(f"Run {claimed.fence.run_id!r} was claimed anew: its last chunk was rolled back")
        return outcome

    def _chunk_loop(self, session: RunSession, brake: Brake) -> ChunkLoop:
        return ChunkLoop(
            self.claimed,
            session,
            self._ledger.database,
            self._settings,
            self._stop,
            self._clock,
            self._committed,
            brake,
        )

    def _context(self, session: RunSession, loop: ChunkLoop, options: RunOptions) -> JobContext:
        claimed = self.claimed
        log = self._log.bind(run=claimed.fence.run_id, job=claimed.job)
        return JobContext(
            run_id=claimed.fence.run_id,
            job=claimed.job,
            attempt=claimed.attempts + 1,
            fence=claimed.fence.number,
            actor=claimed.enqueued_by or self._ledger.worker,
            options=options,
            started_at=claimed.started_at,
            session=session,
            progress=claimed.progress,
            log=log,
            settings=self._settings,
            tables=self._tables,
            clock=self._clock,
            driver=loop,
            tools=JobTools(self._ledger, session, claimed, self._settings, log, self._held_runs),
        )

    async def _call(self, spec: JobSpec, context: JobContext, arguments: dict[str, object]) -> object:
        try:
            async with asyncio.timeout(spec.timeout_s) as deadline:
                return await spec.function(context, **arguments)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise AttemptTimeoutError(
                f"Job {spec.name!r} took longer than its timeout of {spec.timeout_s:g} s. What its chunks committed "
                "stays. Allow more, for example @job(timeout=3600), or do less in one chunk"
            ) from error

    def _committed(self, event: Event) -> None:
        self.committed += 1
        self._emit(event)


def stored_outcome(found: NotClaimable) -> Outcome:
    """The outcome of a run that has ended, or that is paused, as the ledger has it."""
    match found.status:
        case Status.SUCCEEDED:
            return Succeeded(found.result)
        case Status.PAUSED:
            return Paused()
        case Status.CANCELLED:
            return Cancelled("cancelled")
        case _:
            error = found.error or {}
            return Failed(
                ErrorRecord(
                    type=error.get("type") or "Exception",
                    message=error.get("message") or "",
                    sqlstate=error.get("sqlstate"),
                    traceback=error.get("traceback") or "",
                    constraint=error.get("constraint"),
                )
            )
