"""What can go wrong around a fleet of workers, one blow each: to a worker, to the database, to Redis.

Owns the blows; each is over when its function returns, and whatever it hit answers again. Refuses to choose the moment.
"""

import asyncio
import os
import random
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from arq.constants import default_queue_name, in_progress_key_prefix
from redis.asyncio import Redis

from tests.support.breakable import Breakable
from tests.support.fleet import Fleet
from worker.embedded import RedisProcess

AWAY_S = 3.0
"""How long somebody stands still at most, in seconds: longer than a lease of the workers."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What can be hit.

    Attributes:
        fleet: the workers.
        database: their server, of this test's own.
        redis: likewise.
        database_url: of the database that they work on.
        rand: chance.
    """

    fleet: Fleet
    database: Breakable
    redis: RedisProcess
    database_url: str
    rand: random.Random


Strike = Callable[[Scene], Awaitable[str]]
"""One blow; returns what it was, for the story of a failure."""


async def wait_a_while(scene: Scene) -> str:
    """Nothing: something else goes wrong by itself meanwhile."""
    seconds = scene.rand.uniform(0.5, 1.5)
    await asyncio.sleep(seconds)
    return f"waited for {seconds:.2f} s"


async def kill_a_worker(scene: Scene) -> str:
    """SIGKILL."""
    return f"killed worker {await scene.fleet.end_one(signal.SIGKILL)}"


async def stop_a_worker(scene: Scene) -> str:
    """SIGTERM, as a deployment does."""
    return f"stopped worker {await scene.fleet.end_one(signal.SIGTERM)}"


async def stall_a_worker(scene: Scene) -> str:
    """SIGSTOP, for some time within the lease or past it."""
    seconds = scene.rand.uniform(0.2, AWAY_S)
    return f"stalled worker {await scene.fleet.stall_one(seconds)} for {seconds:.2f} s"


async def end_sessions(scene: Scene) -> str:
    """`pg_terminate_backend`, or `KILL CONNECTION`, on half of the sessions in the database."""
    return f"ended {await scene.database.end_sessions(scene.database_url, scene.rand)} sessions"


async def restart_database(scene: Scene) -> str:
    """A shutdown in good order, which rolls back what is under way, and a start."""
    scene.database.restart()
    return "restarted the database"


async def crash_database(scene: Scene) -> str:
    """The end of its processes at once, after which the server recovers from its log."""
    scene.database.crash()
    return "crashed the database"


async def restart_redis(scene: Scene) -> str:
    """In good order, with its data, after a moment in which nobody reaches it."""
    scene.redis.stop()
    await asyncio.sleep(scene.rand.uniform(0, 1))
    scene.redis.start()
    return "restarted Redis"


async def crash_redis(scene: Scene) -> str:
    """SIGKILL, and a start with what its append-only file holds."""
    scene.redis.kill()
    await asyncio.sleep(scene.rand.uniform(0, 1))
    scene.redis.start()
    return "killed and started Redis"


async def stall_redis(scene: Scene) -> str:
    """SIGSTOP: it neither answers nor refuses, within the lease or past it."""
    seconds = scene.rand.uniform(0.2, AWAY_S)
    os.kill(scene.redis.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(scene.redis.pid, signal.SIGCONT)
    return f"stalled Redis for {seconds:.2f} s"


async def pause_redis(scene: Scene) -> str:
    """CLIENT PAUSE: what it is told is done later."""
    seconds = scene.rand.uniform(0.2, AWAY_S)
    async with Redis.from_url(scene.redis.url) as redis:
        await redis.client_pause(round(seconds * 1000))
    await asyncio.sleep(seconds)
    return f"paused Redis for {seconds:.2f} s"


async def flush_redis(scene: Scene) -> str:
    """FLUSHALL: it answers all the time, and has forgotten everything."""
    async with Redis.from_url(scene.redis.url) as redis:
        held = await _held(redis)
        await redis.flushall()
    return f"flushed Redis, which held {held}"


async def empty_redis(scene: Scene) -> str:
    """In good order, and a start from an empty folder, after a moment in which nobody reaches it."""
    async with Redis.from_url(scene.redis.url) as redis:
        held = await _held(redis)
    scene.redis.stop()
    shutil.rmtree(scene.redis.folder.path / "data")
    await asyncio.sleep(scene.rand.uniform(0, 1))
    scene.redis.start()
    return f"restarted Redis without its data, which held {held}"


async def _held(redis: Redis) -> str:
    """How much there is to lose."""
    now_ms = time.time_ns() // 1_000_000
    due = await redis.zcount(default_queue_name, "-inf", now_ms)
    deferred = await redis.zcount(default_queue_name, f"({now_ms}", "+inf")
    claimed = len(await redis.keys(f"{in_progress_key_prefix}*"))
    return f"{claimed} claimed, {due - claimed} queued, {deferred} deferred"
