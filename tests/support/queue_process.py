"""A process with one worker of the class under test: `python -m tests.support.queue_process REDIS_URL`.

Its jobs note each start in the Redis list `starts`.
"""

import asyncio
import sys
from typing import Any

from arq import func

from tests.support.queue_workers import make_worker


async def wait_for_leave(ctx: dict[str, Any]) -> str:
    """Run until the key `leave` exists."""
    await ctx["redis"].rpush("starts", ctx["job_id"])
    while not await ctx["redis"].exists("leave"):
        await asyncio.sleep(0.02)
    return "left"


async def take_hours(ctx: dict[str, Any]) -> None:
    """Never asked for: a job that may take long, registered beside the other one."""
    await ctx["redis"].rpush("starts", ctx["job_id"])


JOBS = [func(wait_for_leave, name="wait_for_leave", timeout=60), func(take_hours, name="take_hours", timeout=6 * 3600)]

if __name__ == "__main__":
    make_worker(sys.argv[1], JOBS, handle_signals=True).run()
