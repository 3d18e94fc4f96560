"""Deliveries that cannot begin on this worker: how the ledger is told, and their return once a worker knows their job.

Owns what the ledger keeps of them. Their payload and queue entry stay in Redis, which is `in_flight`'s business, as is
when they are tried again.
"""

from collections.abc import Callable, Collection, Coroutine
from datetime import timedelta
from typing import Any, Final

from arq.connections import ArqRedis

from worker.core.clock import Clock, to_ms
from worker.core.errors import PayloadError
from worker.core.settings import Settings
from worker.database.aside import put_aside, runs_of_unknown_jobs
from worker.database.claims import UNREADABLE, Delivery, PutAside
from worker.database.engine import Database
from worker.database.ledger import Ledger
from worker.queue.deliver import POSITIONAL
from worker.queue.delivered import UNREAD, Delivered
from worker.queue.functions import OPTIONS
from worker.queue.plain_data import json_safe

LONGEST_NAME: Final = 255
"""Characters of a job's name that the ledger keeps."""

LONGEST_REASON: Final = 1_000
"""Characters of a reason."""


def putting_aside(
    ledger_of: Callable[[], Ledger], settings: Settings, clock: Clock
) -> Callable[[Delivered, str, int], Coroutine[Any, Any, None]]:
    """What the queue calls with each delivery that cannot begin.

    Args:
        ledger_of: the worker's ledger, once it has started.
        settings: the queue's name, and the database's timeouts.
        clock: time.

    Returns:
        A function of the delivery, why it cannot begin, and in how many ms it is tried again. It raises what the
        database raises.
    """

    async def put(delivered: Delivered, why: str, again_ms: int) -> None:
        due_at = clock.now() + timedelta(milliseconds=again_ms)
        await put_aside(ledger_of().database, settings, [aside_of(delivered, why, settings.queue)], due_at)

    return put


def aside_of(delivered: Delivered, why: str, queue: str) -> PutAside:
    """What the ledger keeps of a delivery that cannot begin.

    Args:
        delivered: it; of the name `UNREAD` where its payload could not be read.
        why: for people.
        queue: the queue's name.

    Returns:
        What the ledger shows, and what a sweep could deliver anew: of an unknown job nobody can tell the names of
        positional arguments, which are kept as `POSITIONAL`. Parameters that the ledger cannot keep make it one that
        could not be read: it must never be delivered without them.
    """
    if delivered.name == UNREAD:
        # about when it was enqueued; the claim of a worker that can read it says it exactly
        return _unreadable(delivered.run_id, queue, delivered.taken.due_ms, why)
    named = dict(delivered.kwargs)
    options = named.pop(OPTIONS, None)
    if delivered.args:
        named[POSITIONAL] = list(delivered.args)
    try:
        params, kept_options = json_safe(named), json_safe(options) if isinstance(options, dict) else {}
    except PayloadError as error:
        return _unreadable(delivered.run_id, queue, delivered.enqueued_ms, f"{why}, and {error}")
    job = _storable(delivered.name, LONGEST_NAME)
    kept = Delivery(delivered.run_id, job, params, kept_options, queue, delivered.enqueued_ms)
    return PutAside(kept, _storable(why, LONGEST_REASON))


async def pull_forward(
    redis: ArqRedis, database: Database, settings: Settings, jobs: Collection[str], clock: Clock
) -> int:
    """Make due at once what was put aside by workers that did not know its job: for a worker that starts and does.

    Args:
        redis: any pool.
        database: the ledger's.
        settings: the queue, and the database's timeouts.
        jobs: the jobs that this worker knows.
        clock: time.

    Returns:
        How many entries of the queue were moved. Runs that are not in the queue any more stay out of it.
    """
    moved = 0
    async for run_ids in runs_of_unknown_jobs(database, settings, settings.queue, jobs):
        due = dict.fromkeys(run_ids, to_ms(clock.now()))
        moved += int(await redis.zadd(settings.queue, due, xx=True, ch=True))
    return moved


def _unreadable(run_id: str, queue: str, enqueued_ms: int, reason: str) -> PutAside:
    return PutAside(Delivery(run_id, UNREADABLE, {}, {}, queue, enqueued_ms), _storable(reason, LONGEST_REASON))


def _storable(text: str, longest: int) -> str:
    # a name or a message from a payload may be anything; no database keeps a NUL
    return text.replace("\x00", "\\0")[:longest]
