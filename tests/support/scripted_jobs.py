"""Jobs of the tests: one whose parameter picks its ending, one that shows anything done twice, two that are broken."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Literal

from sqlalchemy import Update, update
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import col, select

from tests.support.shop_models import Tally
from worker import Cancel, JobContext, Retry, Snooze, job, processor

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


@job(timeout=6 * 3600)
async def add_one_for_hours(ctx: JobContext, pause_s: float = 0.0) -> int:
    """The same, by a job that may take six hours: nobody may wait for so long to find out that its worker is dead."""
    return await add_one(ctx, pause_s)


@job
async def add_one_deaf(ctx: JobContext) -> int:
    """The same, by a job that hears of no cancellation: it goes on as if nothing had been said."""
    async for chunk in ctx.chunks(select(Tally), key=Tally.id):
        for tally in chunk.rows:
            tally.value += 1
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.05)
    return ctx.progress.done


@job
async def kill_worker(ctx: JobContext) -> int:
    """Kill the worker that runs it, each time."""
    del ctx
    os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.Event().wait()
    return 0


@processor
async def one_more(ctx: JobContext, rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Add one to each tally that it is given: one that was given twice shows as two."""
    del ctx
    return [{"id": row["id"], "value": int(str(row["value"])) + 1} for row in rows]


@processor
async def one_more_each(ctx: JobContext, rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Count one more of each item that it is given."""
    del ctx
    return [{"sku": row["sku"], "quantity": int(str(row["quantity"])) + 1} for row in rows]


@processor
async def look(ctx: JobContext, rows: Sequence[Mapping[str, object]]) -> None:
    """Look at each row, and change none."""
    ctx.progress.count(seen=len(rows))


@job
async def add_one_apart(ctx: JobContext) -> int:
    """Broken on purpose: what a chunk does commits apart from the cursor, so that a kill between them does it twice."""
    assert ctx.settings.database_url is not None
    engine = create_async_engine(ctx.settings.database_url.get_secret_value())
    async for chunk in ctx.chunks(select(Tally), key=Tally.id, lock=False):
        async with engine.begin() as connection:
            await connection.execute(_one_more([tally.id for tally in chunk.rows]))
    await engine.dispose()
    return ctx.progress.done


@job
async def add_one_late(ctx: JobContext) -> int:
    """Broken on purpose: what a chunk does commits with the next one's cursor, so that a kill between loses it."""
    late: list[int] = []
    async for chunk in ctx.chunks(select(Tally), key=Tally.id):
        await ctx.session.exec(_one_more(late))
        late = [tally.id for tally in chunk.rows]
    await ctx.session.exec(_one_more(late))
    return ctx.progress.done


def _one_more(ids: Sequence[int]) -> Update:
    return update(Tally).where(col(Tally.id).in_(ids)).values(value=Tally.value + 1)
