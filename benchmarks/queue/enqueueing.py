"""A hundred jobs enqueued: by arq's client as well as it can, and by ours in one call."""

import asyncio
import time
from typing import Final
from uuid import uuid4

from arq.utils import timestamp_ms

from benchmarks.queue.servers import MeasurementError, Stores
from worker.database.claims import Delivery
from worker.queue.deliver import Parcel, deliver, encode_delivery

BATCH: Final = 100
REPEATS: Final = 20
"""Batches of one measurement."""

WAYS: Final = ("arq, gather of 100", "queue edge, 100 a call", "enqueue_many of 100")


async def enqueue(stores: Stores, way: str) -> float:
    """Jobs a second of one way."""
    await stores.empty()
    call = {WAYS[0]: _gathered, WAYS[1]: _edge, WAYS[2]: _whole}[way]
    # connections are made
    await call(stores)
    began = time.perf_counter()
    for _ in range(REPEATS):
        await call(stores)
    took_s = time.perf_counter() - began
    there = await stores.redis.zcard(stores.settings.queue)
    if there != BATCH * (REPEATS + 1):
        raise MeasurementError(f"{way}: {there:,} jobs are in the queue, not {BATCH * (REPEATS + 1):,}")
    return BATCH * REPEATS / took_s


async def _gathered(stores: Stores) -> None:
    await asyncio.gather(*(stores.redis.enqueue_job("one_insert", number=number) for number in range(BATCH)))


async def _edge(stores: Stores) -> None:
    """What `enqueue_many` does for Redis: ids, payloads and one round trip, without validation or ledger."""
    settings, now = stores.settings, timestamp_ms()
    parcels = []
    for number in range(BATCH):
        delivery = Delivery(uuid4().hex, "one_insert", {"number": number}, {}, settings.queue, now)
        parcels.append(Parcel(delivery.run_id, encode_delivery(delivery, settings), now))
    await deliver(stores.redis, settings.queue, parcels)


async def _whole(stores: Stores) -> None:
    await stores.client.enqueue_many("one_insert", [{"number": number} for number in range(BATCH)])
