"""From idle to the first line of a job, and what a worker costs that waits for one."""

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Final

import psutil

from benchmarks.queue.servers import LONGEST_S, MeasurementError, Stores, measured

IDLE_S: Final = 5.0
"""How long an idle worker's processor time is watched, in seconds: a tick of 10 ms is 0.2% of it."""


@dataclass(frozen=True, slots=True)
class Pickup:
    """How soon an idle worker begins, and what being idle costs.

    Attributes:
        after_ms: sorted; from `enqueue_job`'s return to the job's first line, in ms. Less than 0 where it was sooner.
        from_call_ms: sorted; from `enqueue_job`'s call.
        idle: share of a processor that the idle worker takes.
    """

    after_ms: list[float]
    from_call_ms: list[float]
    idle: float


async def pick_up(stores: Stores, way: str, samples: int) -> Pickup:
    """Jobs from a vanilla client, each after a pause of a length that nothing can be in step with."""
    await stores.empty()
    after, from_call = [], []
    async with measured(way, stores) as process:
        # the first finds the worker starting, the others' connections are warm
        for _ in range(3):
            await _sample(stores, LONGEST_S)
        for _ in range(samples):
            await asyncio.sleep(random.uniform(0.06, 0.1))  # noqa: S311 - spreads samples, hides nothing
            called, returned, began = await _sample(stores, 10)
            after.append((began - returned) / 1e6)
            from_call.append((began - called) / 1e6)
        await asyncio.sleep(1)
        watched = psutil.Process(process.pid)
        before, since = watched.cpu_times(), time.monotonic()
        await asyncio.sleep(IDLE_S)
        used = watched.cpu_times()
        # two equal sums of ticks may differ by a float's last digit
        spent_s = max(0.0, used.user - before.user) + max(0.0, used.system - before.system)
        idle = spent_s / (time.monotonic() - since)
    return Pickup(sorted(after), sorted(from_call), idle)


def percentile(ordered: list[float], share: float) -> float:
    """The sample that so many are not above: of 200, the 198th for 0.99."""
    return ordered[max(0, round(share * len(ordered)) - 1)]


async def _sample(stores: Stores, patience_s: float) -> tuple[int, int, int]:
    called = time.monotonic_ns()
    job = await stores.redis.enqueue_job("mark")
    returned = time.monotonic_ns()
    if job is None:
        raise MeasurementError("arq says that the job exists already")
    # a worker that begins now has the machine's processors to itself
    await asyncio.sleep(0.02)
    began = await job.result(timeout=patience_s, poll_delay=0.02)
    return called, returned, int(began)
