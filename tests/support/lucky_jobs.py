"""A job that goes wrong once or twice and then succeeds: Heavylift's, and the plain arq function that does the same."""

import asyncio
from collections import Counter
from typing import Any, Literal

from arq import func

from worker import JobContext, job

STARTS: Counter[str] = Counter()
"""How often each run was started, in this process."""

Trouble = Literal["connection", "hang"]


async def _third_time(run_id: str, trouble: Trouble) -> int:
    STARTS[run_id] += 1
    if STARTS[run_id] < 3:
        if trouble == "connection":
            raise ConnectionResetError("scripted to lose its connection")
        await asyncio.Event().wait()
    return STARTS[run_id]


@job(timeout=0.2)
async def third_time_lucky(ctx: JobContext, trouble: Trouble) -> int:
    """Go wrong twice, then return the number of starts."""
    return await _third_time(ctx.run_id, trouble)


async def _plain(ctx: dict[str, Any], trouble: Trouble) -> int:
    return await _third_time(ctx["job_id"], trouble)


PLAIN = func(_plain, name="third_time_lucky", timeout=0.2)
