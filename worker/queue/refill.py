"""Some runs at a time: which of them Redis lacks, and their delivery anew from the ledger.

Owns which of two stores is believed. The order is what makes it safe: Redis is asked first, then the ledger is read
again for what is missing alone. A run is ended in the ledger before it leaves Redis, so one that is missing and still
not over was lost, and a result that was there before is of an earlier ending. What Redis has stays as it is. At worst
a run that ends meanwhile is delivered once more, and answered with its stored result.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from arq.connections import ArqRedis

from worker.core.clock import Clock, to_ms
from worker.core.outcomes import Status
from worker.core.settings import Settings
from worker.database.aside import fail_lost, put_aside
from worker.database.claims import UNREADABLE, PutAside
from worker.database.engine import Database
from worker.database.unfinished import Known, read_unfinished
from worker.queue.bounds import DEFAULT_BOUNDS
from worker.queue.deliver import restored_payload
from worker.queue.functions import PARKED_S
from worker.queue.restore_scripts import DELIVER, MISSING
from worker.queue.restore_turn import TURN_MS

REFUSED_AGAIN = timedelta(minutes=1)
"""When a run whose payload is too large is tried again: settings may have changed by then."""


@dataclass(frozen=True, slots=True)
class Refilled:
    """What became of some runs that Redis lacked.

    Attributes:
        delivered: the ids of those that are in Redis again.
        lost: of those that were never readable and whose payload is gone: they have ended as failed.
        refused: of those whose payload would be too large for any worker: the ledger says so.
    """

    delivered: list[str]
    lost: list[str]
    refused: list[str]


class Refill:
    """Brings runs of one queue from the ledger to Redis.

    Args:
        redis: any pool.
        database: the ledger's.
        settings: the queue, the lease and the codec.
        clock: time.
    """

    def __init__(self, redis: ArqRedis, database: Database, settings: Settings, clock: Clock) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._missing = redis.register_script(MISSING)
        self._deliver = redis.register_script(DELIVER)

    async def missing(self, run_ids: Sequence[str], turn_key: str, token: str) -> dict[str, str] | None:
        """Those of some runs without payload or queue entry, with their results' fingerprints, empty for none.

        Returns:
            None where the turn is over.
        """
        found = await self._missing(keys=[self._settings.queue, turn_key], args=[token, TURN_MS, *run_ids])
        if found is None:
            return None
        return {found[at].decode(): found[at + 1].decode() for at in range(0, len(found), 2)}

    async def deliver(self, run_ids: Collection[str], stale: Mapping[str, str]) -> AsyncIterator[Refilled]:
        """Deliver those of some runs anew that the ledger knows as not over, each when it is due; some at a time.

        Args:
            run_ids: at most a page of them.
            stale: fingerprints of their results that were seen before; a run with any other result is left alone, as
                it has ended since.
        """
        async for runs in read_unfinished(self._database, self._settings, run_ids):
            yield await self._deliver_read(runs, stale)

    async def _deliver_read(self, runs: Sequence[Known], stale: Mapping[str, str]) -> Refilled:
        words: list[str | bytes] = []
        refused: list[PutAside] = []
        for run in runs:
            payload = self._payload(run)
            if len(payload) > DEFAULT_BOUNDS.max_bytes:
                refused.append(PutAside(run.delivery, _too_large(payload)))
                continue
            run_id = run.delivery.run_id
            words += (run_id, payload, self._due(run), stale.get(run_id, ""))
        if refused:
            again = self._clock.now() + REFUSED_AGAIN
            await put_aside(self._database, self._settings, refused, again)
        delivered, lost = await self._deliver(keys=[self._settings.queue], args=words) if words else ([], [])
        ended = await fail_lost(self._database, self._settings, [run_id.decode() for run_id in lost]) if lost else []
        return Refilled([run_id.decode() for run_id in delivered], ended, [aside.delivery.run_id for aside in refused])

    def _payload(self, run: Known) -> bytes:
        if run.delivery.job == UNREADABLE:
            return b""
        return restored_payload(run, self._settings)

    def _due(self, run: Known) -> str:
        match run.status, run.due_at:
            case Status.PAUSED, _:
                return f"+{round(PARKED_S * 1000)}"
            case Status.QUEUED, _:
                return str(run.delivery.enqueued_ms)
            case Status.WAITING, due_at if due_at is not None:
                return str(to_ms(due_at))
            case _:
                # some worker holds it, and says so again in Redis long before a lease is over
                return f"+{round(self._settings.lease_s * 1000)}"


def _too_large(payload: bytes) -> str:
    return (
        f"its payload would be {len(payload):,} bytes, more than the {DEFAULT_BOUNDS.max_bytes:,} that a worker reads. "
        'Put the rows in a file or a table, for example {"source": {"uri": "file:///data/rows.csv"}}'
    )
