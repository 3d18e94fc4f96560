"""Putting runs that the ledger knows into Redis, on arq's wire: safe to do again.

Owns the keys' writing. A run's payload has no expiry: it is deleted when the run ends, however long the backlog is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from arq.connections import ArqRedis
from arq.constants import job_key_prefix, result_key_prefix

from worker.core.errors import PayloadError
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.queue.functions import OPTIONS
from worker.queue.wire import Codec, encode


@dataclass(frozen=True, slots=True)
class Parcel:
    """A run as Redis gets it.

    Attributes:
        run_id: the arq job id.
        payload: as `encode_delivery` made it.
        due_ms: when it may start, in ms since 1970.
    """

    run_id: str
    payload: bytes
    due_ms: int


def encode_delivery(delivery: Delivery, settings: Settings) -> bytes:
    """The payload of a run: arq's job dictionary in the configured codec.

    Raises:
        PayloadError: it is larger than WORKER_MAX_PAYLOAD_BYTES.
    """
    named: Mapping[str, object] = delivery.params
    if delivery.options:
        named = {**named, OPTIONS: delivery.options}
    message = {"t": None, "f": delivery.job, "a": (), "k": dict(named), "et": delivery.enqueued_ms}
    payload = encode(message, Codec(settings.wire))
    if len(payload) > settings.max_payload_bytes:
        raise PayloadError(
            f"The payload of job {delivery.job!r} is {len(payload):,} bytes, above WORKER_MAX_PAYLOAD_BYTES "
            f"({settings.max_payload_bytes:,}). Put the rows in a file or a table and give its name, for example "
            '{"source": {"uri": "file:///data/rows.csv"}}'
        )
    return payload


async def deliver(redis: ArqRedis, queue: str, parcels: Sequence[Parcel]) -> None:
    """Write payloads and queue entries, where they are not there yet: one transaction, one round trip.

    Args:
        redis: any pool.
        queue: the queue's name.
        parcels: some hundreds at most, and not none: Redis does nothing else meanwhile.

    Raises:
        redis.exceptions.RedisError: it may or may not have happened.
        OSError: likewise.
    """
    async with redis.pipeline(transaction=True) as pipe:
        for parcel in parcels:
            pipe.set(job_key_prefix + parcel.run_id, parcel.payload, nx=True)
        # the result of an earlier use of an id is not this run's
        pipe.delete(*(result_key_prefix + parcel.run_id for parcel in parcels))
        pipe.zadd(queue, {parcel.run_id: parcel.due_ms for parcel in parcels}, nx=True)
        await pipe.execute()
