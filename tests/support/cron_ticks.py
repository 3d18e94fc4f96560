"""When a cron job comes due: a worker is taken through days in a moment, by telling it the time."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from arq import cron
from arq.connections import ArqRedis

from tests.support.queue_keys import QUEUE
from tests.support.queue_workers import NOTHING, make_worker

NEW_YORK = ZoneInfo("America/New_York")
_STEP = timedelta(minutes=5)


async def ticks(client: ArqRedis, redis_url: str, start: datetime, days: int = 3, **when: int) -> list[datetime]:
    """The moments at which a worker in New York enqueues a cron, in UTC.

    Args:
        client: of an empty queue.
        redis_url: the same Redis.
        start: the moment from which on the worker looks.
        days: how long it looks.
        when: `arq.cron`'s fields.
    """
    planned = cron(NOTHING.coroutine, name="tick", microsecond=0, **when)  # type: ignore[arg-type]  # all are integers
    worker = make_worker(redis_url, cron_jobs=[planned], timezone=NEW_YORK, redis_pool=client)
    for number in range(days * 24 * 12):
        await worker.run_cron((start + number * _STEP).astimezone(NEW_YORK), _STEP.total_seconds(), 1)
    # arq names a unique cron's job after its moment
    ids = [job_id.decode() for job_id in await client.zrange(QUEUE, 0, -1)]
    return [datetime.fromtimestamp(int(job_id.rpartition(":")[2]) / 1000, UTC) for job_id in ids]
