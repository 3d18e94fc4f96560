"""Putting a run that the ledger knows into Redis, on arq's wire: safe to do again.

Owns the keys' writing. A run's payload has no expiry: it is deleted when the run ends, however long the backlog is.
"""

from collections.abc import Mapping

from arq.connections import ArqRedis
from arq.constants import job_key_prefix, result_key_prefix

from worker.core.errors import PayloadError
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.queue.functions import OPTIONS
from worker.queue.wire import Codec, encode


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


async def deliver(redis: ArqRedis, delivery: Delivery, payload: bytes, due_ms: int) -> None:
    """Write payload and queue entry in one transaction, where they are not there yet.

    Args:
        redis: any pool.
        delivery: the run.
        payload: as `encode_delivery` made it.
        due_ms: when it may start, in ms since 1970.
    """
    async with redis.pipeline(transaction=True) as pipe:
        pipe.set(job_key_prefix + delivery.run_id, payload, nx=True)
        # the result of an earlier use of this id is not this run's
        pipe.delete(result_key_prefix + delivery.run_id)
        pipe.zadd(delivery.queue, {delivery.run_id: due_ms}, nx=True)
        await pipe.execute()
