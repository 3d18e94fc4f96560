"""From the ledger to Redis: the runs of one call, a batch a round trip.

Owns what is delivered, and what a caller is told where Redis fails in between. Refuses to write the ledger.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from arq.connections import ArqRedis
from redis.exceptions import RedisError

from worker.client.orders import Order
from worker.core.clock import to_ms
from worker.core.errors import UnreachableError
from worker.core.outcomes import Status
from worker.core.settings import Settings
from worker.database.records import RunRecord
from worker.queue.deliver import Parcel, deliver, encode_delivery

SHOWN = 3
"""How many ids a message names."""


@dataclass(frozen=True, slots=True)
class Deliverer:
    """Delivers runs that are in the ledger.

    Attributes:
        redis: any pool.
        settings: the queue and the codec.
    """

    redis: ArqRedis
    settings: Settings

    async def deliver(
        self, batches: Sequence[Sequence[Order]], found: Mapping[str, RunRecord], due: datetime | None
    ) -> None:
        """Deliver those runs that wait for their turn.

        Args:
            batches: the orders, as many together as go at once.
            found: the ledger's records of them, by id.
            due: when they may start; None for at once.

        Raises:
            UnreachableError: Redis failed; the message says what to do about those that it has not got.
        """
        for at, batch in enumerate(batches):
            parcels = [self._parcel(order, found[order.delivery.run_id], due) for order in _waiting(batch, found)]
            if not parcels:
                continue
            try:
                await deliver(self.redis, self.settings.queue, parcels)
            except (RedisError, OSError) as error:
                left = [order.delivery.run_id for later in batches[at:] for order in _waiting(later, found)]
                raise UnreachableError(_not_delivered(left, error)) from error

    def _parcel(self, order: Order, record: RunRecord, due: datetime | None) -> Parcel:
        enqueued_ms, payload = to_ms(record.enqueued_at), order.payload
        if enqueued_ms != order.delivery.enqueued_ms:
            # with another enqueue time than the ledger's it would later be taken for a new use of its id
            payload = encode_delivery(replace(order.delivery, enqueued_ms=enqueued_ms), self.settings)
        return Parcel(record.id, payload, to_ms(due) if due else enqueued_ms)


def _waiting(orders: Sequence[Order], found: Mapping[str, RunRecord]) -> list[Order]:
    """One order a run. Of runs that existed: an earlier enqueueing may have died between the two stores."""
    by_id = {order.delivery.run_id: order for order in orders}
    return [order for run_id, order in by_id.items() if found[run_id].status in {Status.QUEUED, Status.WAITING}]


def _not_delivered(run_ids: Sequence[str], error: Exception) -> str:
    why = f"{type(error).__name__}: {error}"
    if len(run_ids) == 1:
        return (
            f"Run {run_ids[0]!r} is in the ledger, but not in Redis: {why}. "
            "Enqueue it again under the same id once REDIS_URL answers; it will not be doubled"
        )
    shown = ", ".join(repr(run_id) for run_id in run_ids[:SHOWN])
    return (
        f"{len(run_ids):,} runs are in the ledger, but not in Redis (such as {shown}): {why}. "
        "Enqueue them again under the same ids once REDIS_URL answers; none will be doubled"
    )
