"""Deliveries that cannot begin, as the queue's loop tells of them."""

from collections.abc import Mapping, Sequence

from tests.support.stores import ENQUEUED, QUEUE
from worker.core.clock import to_ms
from worker.database.claims import PutAside
from worker.queue.delivered import Delivered
from worker.queue.put_aside import aside_of
from worker.queue.step import Taken

ENQUEUED_MS = to_ms(ENQUEUED)


def unknown_job(
    run_id: str,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    *,
    job: str = "new_job",
    enqueued_ms: int = ENQUEUED_MS,
) -> PutAside:
    """A delivery of a job that the worker does not know."""
    delivered = Delivered(_taken(run_id), job, tuple(args), dict(kwargs), enqueued_ms)
    return aside_of(delivered, f"job {job!r} is not known to this worker, which knows a, b", QUEUE)


def unreadable(run_id: str) -> PutAside:
    """A delivery whose payload the worker cannot read."""
    why = "its payload cannot be read: The payload begins with b'\\x1f\\x8b'"
    return aside_of(Delivered(_taken(run_id)), why, QUEUE)


def _taken(run_id: str) -> Taken:
    return Taken(run_id, str(ENQUEUED_MS + 5_000).encode(), 1, None, b"?")
