"""Both stores with a few virtual workers, and what the stores must hold after each thing that happens to them.

Owns the steps that a worker, a client or a fault takes, each by the real code, and the expectation beside them. Refuses
to choose what happens next: Hypothesis does.
"""

import time
from dataclasses import dataclass, field
from typing import Final

from arq.connections import ArqRedis
from sqlalchemy import delete, func, select, text, update
from sqlmodel import col

from tests.support.queue_hand import Hand
from tests.support.shop_models import Tally
from tests.support.stores import QUEUE, SetClock
from worker.core.errors import StaleFenceError
from worker.core.outcomes import Interrupted, Succeeded
from worker.core.settings import Settings
from worker.database.claims import Claimed, Delivery, Fence, NotClaimable, Terms
from worker.database.engine import Database
from worker.database.ledger import Ledger
from worker.database.session import open_session
from worker.database.tables import PROGRESS, RUNS
from worker.queue.deliver import Parcel, deliver, encode_delivery
from worker.queue.restore import Restorer
from worker.queue.step import Kind
from worker.queue.wire import decode
from worker.run.brake import Brake
from worker.run.chunks import ChunkLoop
from worker.run.stop_signal import StopSignal

CHUNKS: Final = 3
"""Of each run; each adds one to the run's own tally."""

OURS: Final = ("ours-1", "ours-2", "ours-3", "ours-4")
"""Runs enqueued by our client: the ledger knows them first."""

BY_WIRE: Final = ("wire-5", "wire-6")
"""Runs enqueued by a vanilla client: Redis alone knows them until they are claimed."""

HANDS: Final = 3
"""Workers."""

MOST_ROUNDS: Final = 60
"""After so many steps of a worker that nobody disturbs, everything must be over."""


class _LostBeforeCommitError(Exception):
    """The connection was lost in a chunk's transaction."""


@dataclass(slots=True)
class Expected:
    """What must be true of a run.

    Attributes:
        known: whether the ledger has it.
        delivered: whether Redis has it, as long as it is not over.
        fences: how many claims there were.
        newest: the only right to commit; None where nobody has any.
        done: chunks that took effect.
        finished: whether it is over.
    """

    known: bool = False
    delivered: bool = False
    fences: int = 0
    newest: Fence | None = None
    done: int = 0
    finished: bool = False


@dataclass(slots=True)
class Model:
    """The stores, the workers, and what is expected.

    Attributes:
        database: the ledger's and the tallies'.
        redis: a pool; everything in this Redis is the model's.
        settings: a worker's.
        hands: the workers.
        runs: what is expected, by run id.
        by_wire: what a vanilla client has enqueued.
    """

    database: Database
    redis: ArqRedis
    settings: Settings
    hands: list[Hand] = field(default_factory=list)
    runs: dict[str, Expected] = field(default_factory=dict)
    by_wire: set[str] = field(default_factory=set)
    _clock: SetClock = field(default_factory=SetClock)
    _began_ms: int = 0

    @property
    def is_anything_queued(self) -> bool:
        """Whether a step may meet something, or has something to tell."""
        return any(run.delivered for run in self.runs.values()) or any(hand.endings for hand in self.hands)

    async def begin(self) -> None:
        """Empty both stores; new workers."""
        self.runs, self.by_wire = {run_id: Expected() for run_id in (*OURS, *BY_WIRE)}, set()
        self._began_ms = round(time.time() * 1000) - 60_000
        await self.redis.flushall()
        async with self.database.engine.begin() as connection:
            # what belongs to a run goes with it
            await connection.execute(delete(RUNS))
            await connection.execute(delete(Tally))
            rows = [{"id": _row(run_id)} for run_id in self.runs]
            await connection.execute(text("INSERT INTO tally (id, value) VALUES (:id, 0)"), rows)
        self.hands = [Hand(f"worker-{number}", self.redis, self.database, self.settings) for number in range(HANDS)]

    async def close(self) -> None:
        """Give the workers' connections up."""
        for hand in self.hands:
            await hand.link.close()

    async def enqueue(self, run_id: str, *, deliver_it: bool) -> None:
        """Our client enqueues, again perhaps; it may die between the two stores, and its delivery may be late."""
        delivery = Delivery(run_id, "model", {"row": _row(run_id)}, {}, QUEUE, self._began_ms)
        await Ledger(self.database, self.settings, "client").enqueue([[delivery]], Terms(enqueued_by="client"))
        self.runs[run_id].known = True
        if deliver_it:
            parcel = Parcel(run_id, encode_delivery(delivery, self.settings), self._began_ms)
            await deliver(self.redis, QUEUE, [parcel])
            self.runs[run_id].delivered = True

    async def enqueue_by_wire(self, run_id: str) -> None:
        """A vanilla client enqueues."""
        await self.redis.enqueue_job("model", _row(run_id), _job_id=run_id)
        self.by_wire.add(run_id)
        self.runs[run_id].delivered = True

    async def claim(self, hand: Hand) -> None:
        """A worker claims in the ledger what its steps have brought: the newest claim of each run that is not over."""
        brought, hand.taken = hand.taken, {}
        deliveries = []
        for taken in brought.values():
            assert taken.payload is not None, f"{taken.run_id} was queued without a payload"
            job = decode(taken.payload)
            deliveries.append(
                Delivery(taken.run_id, str(job["f"]), dict(job["k"]), {}, QUEUE, int(str(job["et"])))  # type: ignore[call-overload]  # a dictionary, as decoded
            )
        for found in await hand.ledger.claim(deliveries):
            if isinstance(found, NotClaimable):
                assert (self.runs[found.run_id].finished, found.result) == (True, CHUNKS)
                hand.end(brought[found.run_id], Kind.FINISH)
            else:
                hand.held[found.fence.run_id] = (found, brought[found.fence.run_id])
                self._claimed(found)

    async def work(self, hand: Hand, run_id: str, *, joint: bool) -> None:
        """A worker does a chunk, or ends a run that has none left; the last chunk may commit with the result."""
        claimed, taken = hand.held[run_id]
        valid = self._may_commit(claimed)
        try:
            over = await self._chunk(hand, claimed, joint=joint)
        except StaleFenceError:
            assert not valid, f"{run_id}: the newest claim was refused"
            hand.end(taken, Kind.SPENT)
            return
        assert valid, f"{run_id}: a stale claim took effect"
        self._worked(claimed, over=over)
        if over:
            hand.end(taken, Kind.FINISH)

    async def lose_commit(self, hand: Hand, run_id: str, *, joint: bool, arrived: bool) -> None:
        """The connection is lost with a chunk's COMMIT, before or after it took effect; the worker settles it."""
        claimed, taken = hand.held[run_id]
        valid = self._may_commit(claimed)
        try:
            over = await self._chunk(hand, claimed, joint=joint, lost=not arrived)
            assert valid, f"{run_id}: a stale claim took effect"
            self._worked(claimed, over=over)
        except (StaleFenceError, _LostBeforeCommitError):
            pass
        try:
            settled = await hand.ledger.settle(claimed)
        except StaleFenceError:
            assert not valid, f"{run_id}: the newest claim could not be settled"
            hand.end(taken, Kind.SPENT)
            return
        assert valid, f"{run_id}: a stale claim was settled"
        if isinstance(settled, NotClaimable):
            assert (self.runs[run_id].finished, settled.result) == (True, CHUNKS)
            hand.end(taken, Kind.FINISH)
        else:
            hand.held[run_id] = (settled, taken)
            self._claimed(settled)

    async def interrupt(self, hand: Hand, run_id: str) -> None:
        """A worker that is told to stop puts a run back."""
        claimed, taken = hand.held[run_id]
        valid = self._may_commit(claimed)
        assert await hand.ledger.end(claimed, Interrupted()) == valid
        if valid:
            self.runs[run_id].newest = None
        hand.end(taken, Kind.UNSPENT if valid else Kind.SPENT)

    async def take_over(self, run_id: str, hand: Hand) -> None:
        """Whoever holds a run stands still for longer than its lease, and this worker takes what it can get."""
        await self.lapse(run_id)
        await self.pass_time()
        await hand.step(len(self.runs))
        await self.claim(hand)

    async def lapse(self, *run_ids: str) -> None:
        """Leases lapse."""
        await self.redis.delete(*(f"arq:in-progress:{run_id}" for run_id in run_ids))

    async def flush(self) -> None:
        """Redis loses all it has."""
        await self.redis.flushall()
        for run in self.runs.values():
            run.delivered = False

    async def restore(self) -> None:
        """A worker sweeps: what the ledger knows as not over is in Redis again."""
        self._clock.pass_s(3_600)
        swept = await Restorer(self.redis, self.database, self.settings, self._clock).run_if_needed(lost=True)
        assert swept is not None
        assert swept.complete
        for run in self.runs.values():
            run.delivered = run.delivered or (run.known and not run.finished)

    async def pass_time(self) -> None:
        """What is queued for later is due."""
        later = await self.redis.zrangebyscore(QUEUE, round(time.time() * 1000) - 1_000, "+inf")
        if later:
            await self.redis.zadd(QUEUE, dict.fromkeys(later, self._began_ms), xx=True)

    async def drain(self) -> None:
        """All workers die; one that nobody disturbs brings everything to its end."""
        for hand in self.hands:
            await hand.link.close()
        last = Hand("last", self.redis, self.database, self.settings)
        self.hands = [last]
        await self.lapse(*self.runs)
        await self.restore()
        for _ in range(MOST_ROUNDS):
            await self.pass_time()
            await last.step(10)
            if not last.taken:
                break
            await self.claim(last)
            while last.held:
                await self.work(last, next(iter(last.held)), joint=True)
        await self.check()
        for run_id, run in self.runs.items():
            assert run.finished or not (run.known or run.delivered), f"{run_id} was lost"
        kept = await self.redis.keys("arq:*")
        assert [key for key in kept if not key.startswith(b"arq:result:")] == []
        assert {await self.redis.get(key) for key in kept} <= {b"3"}

    async def check(self) -> None:
        """Whether both stores hold what they must.

        Raises:
            AssertionError: a run was done twice, lost, begun again, or has another right to commit.
        """
        async with self.database.engine.connect() as connection:
            found = await connection.execute(
                select(RUNS.c.id, RUNS.c.status == "succeeded", RUNS.c.result)
                .add_columns(func.coalesce(PROGRESS.c.fence, 0), func.coalesce(PROGRESS.c.done, 0), PROGRESS.c.token)
                .outerjoin_from(RUNS, PROGRESS, PROGRESS.c.run_id == RUNS.c.id)
            )
            ledger = {row[0]: tuple(row[1:]) for row in found}
            tallies = {row.id: row.value for row in await connection.execute(text("SELECT id, value FROM tally"))}
        assert tallies == {_row(run_id): run.done for run_id, run in self.runs.items()}
        assert ledger == {run_id: _record(run) for run_id, run in self.runs.items() if run.known}
        owed = [run_id for run_id, run in self.runs.items() if run.known and run.delivered and not run.finished]
        queued = {run_id.decode() for run_id in await self.redis.zrange(QUEUE, 0, -1)}
        payloads = {key.decode().removeprefix("arq:job:") for key in await self.redis.keys("arq:job:*")}
        assert set(owed) <= queued & payloads, "Redis has lost a run"

    async def _chunk(self, hand: Hand, claimed: Claimed, *, joint: bool, lost: bool = False) -> bool:
        """What an attempt does between two boundaries; whether the run is over by it."""
        clock, stop, done = SetClock(), StopSignal(), claimed.progress.done
        last = joint and done == CHUNKS - 1
        async with open_session(self.database, self.settings) as session:
            brake = Brake(claimed, None, hand.ledger, stop, clock, lambda _: None)
            loop = ChunkLoop(claimed, session, self.database, self.settings, stop, clock, lambda _: None, brake)

            async def add_one() -> None:
                mine = col(Tally.id) == _row(claimed.fence.run_id)
                await session.exec(update(Tally).where(mine).values(value=Tally.value + 1))
                if lost:
                    raise _LostBeforeCommitError

            if done < CHUNKS:
                await loop.commit_chunk(add_one, cursor={"next": done + 1}, rows=1, last=last)
                if not last:
                    return False
            if lost and not last:
                raise _LostBeforeCommitError
            if not await session.end_with(hand.ledger.ending(claimed, Succeeded(CHUNKS))):
                raise StaleFenceError(claimed.fence.run_id)
        return True

    def _may_commit(self, claimed: Claimed) -> bool:
        return self.runs[claimed.fence.run_id].newest == claimed.fence

    def _claimed(self, claimed: Claimed) -> None:
        run = self.runs[claimed.fence.run_id]
        assert not run.finished
        run.known, run.fences, run.newest = True, run.fences + 1, claimed.fence
        cursor = {"next": run.done} if run.done else None
        found = claimed.progress
        assert (claimed.fence.number, found.done, found.chunk, found.cursor) == (run.fences, run.done, run.done, cursor)

    def _worked(self, claimed: Claimed, *, over: bool) -> None:
        run = self.runs[claimed.fence.run_id]
        run.done = claimed.progress.done
        if over:
            run.finished, run.newest = True, None


def _record(run: Expected) -> tuple[object, ...]:
    """A run's row in the ledger."""
    return (
        run.finished,
        CHUNKS if run.finished else None,
        run.fences,
        run.done,
        run.newest.token if run.newest else None,
    )


def _row(run_id: str) -> int:
    """The run's own tally."""
    return int(run_id.rpartition("-")[2])
