"""Putting runs that the ledger knows into Redis, on arq's wire: safe to do again.

Owns the payload and the keys' writing. A run's payload has no expiry: it is deleted when the run ends, however long
the backlog is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from arq.connections import ArqRedis
from arq.constants import job_key_prefix, result_key_prefix

from worker.core.errors import PayloadError
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.unfinished import Known
from worker.queue.functions import OPTIONS
from worker.queue.wire import Codec, encode

POSITIONAL: Final = "*args"
"""Where the ledger keeps the positional arguments of a run whose job is unknown: nobody can tell their names yet."""


def _payload_of(delivery: Delivery, codec: Codec) -> bytes:
    """The payload of a run: arq's job dictionary in a codec."""
    named: Mapping[str, object] = delivery.params
    if delivery.options:
        named = {**named, OPTIONS: delivery.options}
    keywords = dict(named)
    positional = keywords.pop(POSITIONAL, ())
    message = {"t": None, "f": delivery.job, "a": positional, "k": keywords, "et": delivery.enqueued_ms}
    return encode(message, codec)


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
    """The payload of a new run, in the configured codec.

    Raises:
        PayloadError: it is larger than WORKER_MAX_PAYLOAD_BYTES.
    """
    payload = _payload_of(delivery, Codec(settings.wire))
    if len(payload) > settings.max_payload_bytes:
        raise PayloadError(
            f"The payload of job {delivery.job!r} is {len(payload):,} bytes, above WORKER_MAX_PAYLOAD_BYTES "
            f"({settings.max_payload_bytes:,}). Put the rows in a file or a table and give its name, for example "
            '{"source": {"uri": "file:///data/rows.csv"}}'
        )
    return payload


def restored_payload(known: Known, settings: Settings) -> bytes:
    """The payload of a run that Redis has lost, however large it is.

    In which codec it came is lost as well. What came by arq's wire alone gets a pickle: every client that arq has can
    read the result of that.
    """
    return _payload_of(known.delivery, Codec.PICKLE if known.by_wire else Codec(settings.wire))


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
