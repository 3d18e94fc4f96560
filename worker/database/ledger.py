"""The ledger: runs written down, claimed and ended, each in one short transaction of its own.

Owns what becomes of a run in the database outside of its chunks. Refuses to decide: outcomes are handed in.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.errors import ConflictError, StaleFenceError, UnknownRunError
from worker.core.outcomes import Outcome, Status
from worker.core.settings import Settings
from worker.database.claims import Claim, Claimed, Delivery, Fence, NotClaimable, Terms
from worker.database.engine import Database
from worker.database.records import RunRecord, fresh_record, read_run, read_some
from worker.database.reuse import keep_finished_run
from worker.database.session import carry_out, open_session
from worker.database.tables import PROGRESS, RUNS


class Ledger:
    """The `heavylift_*` tables of one database, for one worker or client.

    Args:
        database: where they are.
        settings: whose timeouts hold.
        worker: the name under which claims are made.
    """

    def __init__(self, database: Database, settings: Settings, worker: str) -> None:
        self.database = database
        self._settings = settings
        self.worker = worker

    async def claim(self, deliveries: Sequence[Delivery]) -> list[Claim]:
        """Claim runs, creating those that the ledger did not know; one statement and one transaction for all.

        A delivery that is newer than a finished run of its id is a new run: the old one is kept under `<id>~1`.
        """
        claims = await self._claim(deliveries)
        asked = {delivery.run_id: delivery for delivery in deliveries}
        again = [
            asked[found.run_id]
            for found in claims
            if isinstance(found, NotClaimable)
            and found.status.finished
            and asked[found.run_id].enqueued_ms > found.enqueued_ms
        ]
        if not again:
            return claims
        for delivery in again:
            await keep_finished_run(self.database, delivery.run_id)
        kept = [claim for claim in claims if _id(claim) not in {delivery.run_id for delivery in again}]
        return kept + await self._claim(again)

    async def _claim(self, deliveries: Sequence[Delivery]) -> list[Claim]:
        claim = partial(self.database.dialect.claim, deliveries=deliveries, worker=self.worker)
        # A claim that a crash of the server undoes has committed nothing since: whatever commits later takes it along
        # to the disk. Its worker then finds a fence that is not its own, as after a newer claim.
        return await carry_out(self.database, self._settings, claim, durable=False)

    async def settle(self, held: Claimed) -> Claimed | NotClaimable:
        """Find out what became of a doubtful transaction, and claim the run again where it goes on.

        Returns:
            The run at its true cursor under a new fence; or what it ended as, if the doubtful transaction ended it.

        Raises:
            StaleFenceError: a newer claim holds the run.
        """

        def reclaim(connection: Connection) -> Claimed | NotClaimable | None:
            return self.database.dialect.reclaim(connection, held.fence) or _ended_under(connection, held)

        settled = await carry_out(self.database, self._settings, reclaim)
        if settled is None:
            raise StaleFenceError(f"Run {held.fence.run_id!r} was claimed anew after fence {held.fence.number}")
        # an attempt that goes on began when it was first claimed
        return replace(settled, claimed_at=held.claimed_at) if isinstance(settled, Claimed) else settled

    async def end(self, claimed: Claimed, outcome: Outcome) -> bool:
        """Write down an outcome that no chunk's transaction carries. False where a newer claim holds the run."""
        async with open_session(self.database, self._settings) as session:
            return await session.end_with(self.ending(claimed, outcome))

    def ending(self, claimed: Claimed, outcome: Outcome) -> Callable[[Connection], bool]:
        """What writes an outcome down in the transaction of a connection; it says whether the fence still holds."""
        return partial(self.database.dialect.end, claim=claimed, outcome=outcome, worker=self.worker)

    async def tell(self, fence: Fence, status: Status, waiting_for: str | None) -> str | None:
        """Say in the record of a run that this worker holds whether it goes on, and why it does not.

        Args:
            fence: the right to it.
            status: running or waiting.
            waiting_for: the reason; None for none.

        Returns:
            `pause` or `cancel` where a person asked for it meanwhile.

        Raises:
            StaleFenceError: a newer claim holds the run; its record is that claim's business.
        """
        tell = partial(self.database.dialect.tell, fence=fence, status=status, waiting_for=waiting_for)
        held = await carry_out(self.database, self._settings, tell)
        if held is None:
            raise StaleFenceError(f"Run {fence.run_id!r} was claimed anew after fence {fence.number}")
        return held.wanted

    async def has_ended(self, claimed: Claimed) -> bool:
        """Whether this very claim's outcome is written down already."""
        async with self.database.reading() as connection:
            return await connection.run_sync(_ended_under, claimed) is not None

    async def enqueue(self, batches: Iterable[Sequence[Delivery]], terms: Terms) -> dict[str, RunRecord]:
        """Write runs down before the queue knows them: all of them, or none; one statement a batch of new ones.

        Args:
            batches: the runs. One of an id with the same parameters is found, not made again.
            terms: theirs.

        Returns:
            The runs' records, by id.

        Raises:
            ConflictError: a run of one of the ids exists with another job or other parameters.
        """
        found: dict[str, RunRecord] = {}
        async with self.database.engine.begin() as connection:
            for batch in batches:
                new = await self.database.dialect.enqueue(connection, batch, terms)
                found |= {one.run_id: fresh_record(one, terms) for one in batch if one.run_id in new}
                if old := [one.run_id for one in batch if one.run_id not in found]:
                    found |= await read_some(connection, old)
                for delivery in batch:
                    _check_same(delivery, found)
        return found

    async def read(self, run_id: str) -> RunRecord:
        """One run's record.

        Raises:
            UnknownRunError: the ledger knows none of that id.
        """
        async with self.database.reading() as connection:
            return await read_run(connection, run_id)

    async def note(self, run_id: str, text: str) -> None:
        """Write down what a person should know of a run though it goes on. The same text is kept once."""
        async with self.database.engine.begin() as connection:
            await write_note(connection, run_id, text)

    async def ask_for(self, run_id: str, wanted: str) -> None:
        """Ask a running run to pause or cancel at its next chunk.

        Raises:
            UnknownRunError: no run of that id was ever claimed.
        """
        async with self.database.engine.begin() as connection:
            done = await connection.execute(update(PROGRESS).where(PROGRESS.c.run_id == run_id).values(wanted=wanted))
            if done.rowcount == 0:
                raise UnknownRunError(run_id)


def _check_same(delivery: Delivery, found: Mapping[str, RunRecord]) -> None:
    record = found.get(delivery.run_id)
    if record is None:
        # pruned, or kept under another id, since it was in the way
        raise UnknownRunError(delivery.run_id)
    if record.job != delivery.job or record.params != delivery.params:
        raise ConflictError(
            f"Run {delivery.run_id!r} exists with other parameters (job {record.job!r}, {record.status.value}). "
            "Give another id, or none"
        )


def _ended_under(connection: Connection, held: Claimed) -> NotClaimable | None:
    found = connection.execute(
        select(RUNS.c.status, RUNS.c.enqueued_ms, RUNS.c.result, RUNS.c.error)
        .join(PROGRESS, PROGRESS.c.run_id == RUNS.c.id)
        .where(RUNS.c.id == held.fence.run_id, PROGRESS.c.fence == held.fence.number, ~PROGRESS.c.open)
    )
    row = found.one_or_none()
    if row is None:
        return None
    return NotClaimable(held.fence.run_id, Status(row.status), row.enqueued_ms, row.result, row.error)


def _id(claim: Claim) -> str:
    return claim.fence.run_id if isinstance(claim, Claimed) else claim.run_id


async def write_note(connection: AsyncConnection, run_id: str, text: str) -> None:
    """Write down what a person should know of a run, in a transaction of the caller's; the same text once."""
    # in the order in which claims lock, progress before run: the caller may go on to move the run on
    await connection.execute(select(PROGRESS.c.run_id).where(PROGRESS.c.run_id == run_id).with_for_update())
    found = await connection.execute(select(RUNS.c.notes).where(RUNS.c.id == run_id).with_for_update())
    notes: list[str] = found.scalar_one_or_none() or []
    if text not in notes:
        await connection.execute(update(RUNS).where(RUNS.c.id == run_id).values(notes=[*notes, text]))
