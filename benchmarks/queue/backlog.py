"""A backlog worked off by one worker: how many jobs a second, for how much processor time and traffic."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from arq.jobs import serialize_job
from arq.utils import timestamp_ms
from sqlalchemy import func, select

from benchmarks.queue.servers import MeasurementError, Stores, measured, report
from benchmarks.queue.work import READING
from worker.queue.deliver import Parcel, deliver

WARMING_SHARE: Final = 20
"""One job for so many counted ones warms up: connections are made, statements are prepared."""

PAGE: Final = 500
"""Jobs of one round trip, when the backlog is made."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one worker made of one backlog.

    Attributes:
        jobs_s: jobs a second.
        cpu_us: the worker's processor time a job, in microseconds.
        redis_us: Redis' own.
        commands: of Redis a job, those within scripts among them.
        round_trips: reads that Redis made, a job.
    """

    jobs_s: float
    cpu_us: float
    redis_us: float
    commands: float
    round_trips: float


async def no_ops(stores: Stores, way: str, count: int) -> Figures:
    """Functions that do nothing, as a vanilla client's calls are in Redis, on a worker without a ledger."""
    await stores.empty()
    await _enqueue_plain(stores, "noop", count + count // WARMING_SHARE, numbered=False)
    return await _measure(stores, way, count)


async def inserts(stores: Stores, way: str, count: int) -> Figures:
    """Functions or jobs that insert one row."""
    await stores.empty()
    every = count + count // WARMING_SHARE
    if way.startswith("heavylift"):
        await stores.client.enqueue_many("one_insert", [{"number": number} for number in range(every)])
    elif way.startswith("arq"):
        await _enqueue_plain(stores, "one_insert", every, numbered=True)
    figures = await _measure(stores, way, count)
    async with stores.database.engine.connect() as connection:
        found = (await connection.execute(select(func.count(READING.c.number.distinct()), func.count()))).one()
    if tuple(found) != (every, every):
        raise MeasurementError(f"{way}: {every:,} jobs made {found[1]:,} rows, {found[0]:,} of them different")
    return figures


async def _measure(stores: Stores, way: str, count: int) -> Figures:
    warming = count // WARMING_SHARE
    before = await stores.counts()
    async with measured(way, stores, count, warming) as process:
        said = await report(process)
        # the meter has seen the last job end; what it left in Redis may be under way
        await _wait_until_empty(stores)
        after = await stores.counts()
    every = count + warming
    spent = {name: (after[name] - before[name]) / every for name in before}
    return Figures(said["jobs_s"], said["cpu_us"], spent["cpu_s"] * 1e6, spent["commands"], spent["reads"])


async def _wait_until_empty(stores: Stores) -> None:
    late = time.monotonic() + 10
    while await stores.redis.zcard(stores.settings.queue):
        if time.monotonic() > late:
            raise MeasurementError("the queue is not empty though every job has ended")
        await asyncio.sleep(0.02)


async def _enqueue_plain(stores: Stores, name: str, count: int, *, numbered: bool) -> None:
    """Write what arq's client would have written, in larger pieces."""
    now = timestamp_ms()
    parcels = []
    for number in range(count):
        payload = serialize_job(name, (number,) if numbered else (), {}, None, now)
        assert payload is not None  # noqa: S101 - arq's own type is wider than what it does
        parcels.append(Parcel(f"job-{number}", payload, now))
    for start in range(0, count, PAGE):
        await deliver(stores.redis, stores.settings.queue, parcels[start : start + PAGE])
