"""What the measured workers do: nothing, tell the time, or insert one row.

The same work three times over: as a function of arq's, as a job of ours, and in a plain loop.
"""

import time
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Insert, Integer, MetaData, String, Table, insert
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from benchmarks.queue.meter import METER
from worker import JobContext, job
from worker.core.clock import to_ms
from worker.database.tables import RUNS

READING = Table(
    "benchmark_reading",
    MetaData(),
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("number", Integer, nullable=False),
    Column("note", String(40), nullable=False),
)


def reading(number: int) -> Insert:
    """The one INSERT."""
    return insert(READING).values(number=number, note="a row of the benchmark")


async def noop(ctx: dict[Any, Any], *args: object, **kwargs: object) -> None:  # noqa: ARG001 - as arq calls it
    """Do nothing."""
    METER.begin()
    METER.end()


async def mark(ctx: dict[Any, Any], *args: object, **kwargs: object) -> int:  # noqa: ARG001 - as arq calls it
    """Tell when this began, in ns of the clock that all processes of a machine share."""
    return time.monotonic_ns()


class ArqInserts:
    """The one-INSERT function for arq: a session and a transaction of its own.

    Args:
        engine: the worker's.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def one_insert(self, ctx: dict[Any, Any], *args: Any, **kwargs: object) -> None:  # noqa: ANN401, ARG002 - as arq calls it
        """Insert one row, of the number that is given, and commit."""
        METER.begin()
        (number,) = args
        async with AsyncSession(self._engine) as session:
            await session.execute(reading(number))
            await session.commit()
        METER.end()


@job
async def one_insert(ctx: JobContext, number: int) -> None:
    """Insert one row; the runtime commits it with the run's end."""
    METER.begin()
    await ctx.session.exec(reading(number))
    METER.end()


@job(name="mark")
async def mark_run(ctx: JobContext) -> int:  # noqa: ARG001 - a job has one
    """Tell when this began, as the function of arq's does."""
    return time.monotonic_ns()


async def insert_with_ledger_row(engine: AsyncEngine, number: int) -> None:
    """What a plain loop does for a job: its row, and the row of a run that has ended, in one transaction."""
    METER.begin()
    now = datetime.now(UTC)
    run = {
        "id": f"loop-{number}",
        "job": "one_insert",
        "queue": "none",
        "status": "succeeded",
        "worker": "loop",
        "params": {"number": number},
        "options": {},
        "enqueued_ms": to_ms(now),
        "attempts": 1,
        **dict.fromkeys(("enqueued_at", "started_at", "finished_at"), now),
    }
    async with AsyncSession(engine) as session:
        await session.execute(reading(number))
        await session.execute(insert(RUNS).values(run))
        await session.commit()
    METER.end()
