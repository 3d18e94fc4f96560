"""Keeping the ledger small: one bounded page at a time, as a job's chunk.

Owns what may be forgotten, and the question to the queue. Refuses to choose periods: whoever calls passes the moment.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import attrgetter

from worker.core.errors import UnreachableError
from worker.database.prune import PAGE_ROWS, OldRun, forget_refused_rows, forget_runs, old_refused_rows, old_runs
from worker.database.session import RunSession

HeldRuns = Callable[[str, Sequence[str]], Awaitable[set[str]]]
"""Given a queue's name and run ids, those of the runs that the queue still knows."""


@dataclass(frozen=True, slots=True)
class LedgerPage:
    """Some old rows of the ledger, locked in the run's transaction.

    Attributes:
        seen: how many were looked at; 0 means that nothing is left.
        after: where the next page starts; JSON-safe.
        forget: deletes those that may go, and returns how many.
    """

    seen: int
    after: dict[str, object]
    forget: Callable[[], Awaitable[int]]


class Upkeep:
    """The ledger's own housekeeping, in a run's transaction.

    Args:
        session: the run's.
        run_id: the run, which is never pruned itself.
        held_runs: asks the queue; None where there is no queue to ask.
    """

    def __init__(self, session: RunSession, run_id: str, held_runs: HeldRuns | None) -> None:
        self._session = session
        self._run_id = run_id
        self._held_runs = held_runs

    async def old_refused_rows(self, before: datetime, after: Mapping[str, object], rows: int) -> LedgerPage:
        """A page of the refused rows that were put aside before a moment.

        Args:
            before: aware.
            after: the `after` of the page before; empty for the first.
            rows: how many at most.
        """
        connection = await self._session.connection()
        ids = await old_refused_rows(connection, before, int(str(after.get("id", 0))), min(rows, PAGE_ROWS))
        return LedgerPage(len(ids), {"id": ids[-1]} if ids else {}, lambda: forget_refused_rows(connection, ids))

    async def old_runs(self, before: datetime, after: Mapping[str, object], rows: int) -> LedgerPage:
        """A page of the runs that ended before a moment and have no refused row left; the queue's own stay.

        Args:
            before: aware.
            after: the `after` of the page before; empty for the first.
            rows: how many at most.
        """
        connection = await self._session.connection()
        last = (datetime.fromisoformat(str(after["enqueued_at"])), str(after["id"])) if after else None
        found = await old_runs(connection, before, last, min(rows, PAGE_ROWS))
        place: dict[str, object] = {}
        if found:
            place = {"enqueued_at": found[-1].enqueued_at.isoformat(), "id": found[-1].run_id}

        async def forget() -> int:
            free = await self._free(found)
            return await forget_runs(connection, free) if free else 0

        return LedgerPage(len(found), place, forget)

    async def _free(self, found: Sequence[OldRun]) -> list[str]:
        if self._held_runs is None:
            raise UnreachableError(
                "Runs can only be pruned by a worker with its queue, which tells whether a run may be delivered again. "
                "Run it there: heavylift enqueue cleanup"
            )
        held = {self._run_id}
        for queue, runs in groupby(sorted(found, key=attrgetter("queue")), key=attrgetter("queue")):
            held |= await self._held_runs(queue, [run.run_id for run in runs])
        return [run.run_id for run in found if run.run_id not in held]
