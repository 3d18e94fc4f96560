"""arq's cron jobs, each tick once: however late another worker enqueues it, and on days without its hour.

Owns the mark by which a tick's first delivery is known, and the rule for wall-clock times that do not exist: such a
tick is due at the moment of the jump. One that exists twice is due once, the first time, as in arq.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from arq.connections import ArqRedis
from arq.cron import CronJob
from arq.utils import to_unix_ms

from worker.queue.delivered import Delivered

MARK: Final = "heavylift:tick:"
MARK_MS: Final = 24 * 3600 * 1000
"""How long a tick is remembered, in ms: far longer than two workers' clocks differ."""


async def enqueue_due(redis: ArqRedis, job: CronJob, queue: str, now: datetime, until: datetime) -> None:
    """Enqueue a cron job's next tick where it is due soon. One that could not be enqueued stays the next.

    Args:
        redis: any pool.
        job: arq's; its `next_run` is set to the tick after.
        queue: the queue's key.
        now: aware.
        until: a tick that is due before is enqueued.

    Raises:
        redis.exceptions.RedisError: Redis did not answer.
    """
    if job.next_run is None:
        if not job.run_at_startup:
            set_next_run(job, now)
            return
        job.next_run = now
    if job.next_run < until:
        late = job.next_run <= datetime.now(tz=job.next_run.tzinfo)
        await redis.enqueue_job(
            job.name, _job_id=tick_id(job), _queue_name=queue, _defer_until=None if late else job.next_run
        )
        set_next_run(job, job.next_run)


async def is_first(redis: ArqRedis, delivered: Delivered) -> bool:
    """Whether a delivery is the first of its tick, or the same one again.

    Args:
        redis: any pool.
        delivered: of a cron job. One whose id does not name its tick is always the first.

    Raises:
        redis.exceptions.RedisError: Redis did not answer.
    """
    name, _, moment = delivered.run_id.rpartition(":")
    if name != delivered.name or not moment.isdecimal():
        return True
    mark, mine = MARK + delivered.run_id, str(delivered.enqueued_ms)
    if await redis.set(mark, mine, px=MARK_MS, nx=True):
        return True
    found = await redis.get(mark)
    # a tick that comes again after an interruption is the same delivery, with the same time of enqueueing
    return found is None or found.decode() == mine


def set_next_run(job: CronJob, after: datetime) -> None:
    """Have a cron job's next run computed, and moved out of a gap in local time.

    Args:
        job: arq's; its `next_run` is set.
        after: aware.
    """
    job.calculate_next(after)
    if job.next_run is not None:
        job.next_run = out_of_gap(job.next_run)


def out_of_gap(moment: datetime) -> datetime:
    """A local time as it is, or the moment of the jump where the clocks jump over it.

    Args:
        moment: aware, of a zone with changing offsets.
    """
    zone = moment.tzinfo
    late = moment.replace(fold=0).astimezone(UTC)
    if late.astimezone(zone).replace(tzinfo=None) == moment.replace(tzinfo=None):
        return moment
    # read with the offset from before the jump, it lies after it, and the other way round
    early = moment.replace(fold=1).astimezone(UTC)
    before = early.astimezone(zone).utcoffset()
    while late - early > timedelta(seconds=1):
        middle = early + (late - early) / 2
        if middle.astimezone(zone).utcoffset() == before:
            early = middle
        else:
            late = middle
    return (late + timedelta(milliseconds=500)).replace(microsecond=0).astimezone(zone)


def tick_id(job: CronJob) -> str | None:
    """The id under which a cron job's next run is enqueued, as arq makes it; None for a random one."""
    if job.job_id:
        return str(job.job_id)
    return f"{job.name}:{to_unix_ms(job.next_run)}" if job.unique and job.next_run is not None else None
