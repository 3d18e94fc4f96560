"""Jobs of the tests: one whose parameter picks its ending, and one that shows anything done twice."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Literal

from sqlmodel import select

from tests.support.shop_models import Tally
from worker import Cancel, JobContext, Retry, Snooze, job

Ending = Literal["return", "value_error", "retry", "snooze", "cancel", "connection", "commit", "hang", "bad_result"]


_RAISED: dict[str, Callable[[], Exception]] = {
    "value_error": lambda: ValueError("scripted to fail"),
    "retry": lambda: Retry(0.01),
    "snooze": lambda: Snooze(datetime.now(UTC) + timedelta(seconds=0.01)),
    "cancel": lambda: Cancel("scripted to cancel"),
    "connection": lambda: ConnectionResetError("scripted to lose its connection"),
}


@job(max_attempts=3)
async def scripted(ctx: JobContext, ending: Ending = "return", value: int = 0) -> int:
    """End in the way that was asked for."""
    ctx.log.info("scripted", ending=ending)
    ctx.session.add(Tally(id=value, value=1))
    if ending in _RAISED:
        scripted_error = _RAISED[ending]()
        raise scripted_error
    if ending == "commit":
        await ctx.session.commit()
    if ending == "hang":
        await asyncio.Event().wait()
    return "not a number" if ending == "bad_result" else value  # type: ignore[return-value]  # that is the point


@job
async def add_one(ctx: JobContext, pause_s: float = 0.0) -> int:
    """Add one to every tally, chunk by chunk: a chunk that took effect twice shows as two."""
    async for chunk in ctx.chunks(select(Tally), key=Tally.id):
        for tally in chunk.rows:
            tally.value += 1
        await asyncio.sleep(pause_s)
    return ctx.progress.done
