"""The process that is measured: one worker, named by the first argument, until it is killed.

    python -m benchmarks.queue.measured WAY [COUNT WARMING]

Servers come from the environment, as for `heavylift run`. Nobody's log goes anywhere.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import TypedDict

import uvloop
from arq.connections import RedisSettings
from arq.worker import Worker, func
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from benchmarks.queue.meter import METER
from benchmarks.queue.work import ArqInserts, insert_with_ledger_row, mark, noop
from worker.cli.serve import settle_in
from worker.core.settings import Settings, load_settings
from worker.main import run_worker
from worker.queue.queue_worker import QueueWorker

CONCURRENCY = 10


class Polling(TypedDict):
    """Two of the arguments of arq's worker: the pause between two looks, in seconds, and how many jobs one finds."""

    poll_delay: float
    queue_read_limit: int


TUNED: Polling = {"poll_delay": 0.001, "queue_read_limit": 1000}
"""What takes arq's own limits by polling away."""


def _redis(settings: Settings) -> RedisSettings:
    assert settings.redis_url is not None  # noqa: S101 - the parent sets it
    return RedisSettings.from_dsn(settings.redis_url.get_secret_value())


def _engine(settings: Settings) -> AsyncEngine:
    assert settings.database_url is not None  # noqa: S101 - likewise
    # a plain one: ours would ask each connection whether it lives
    return create_async_engine(settings.database_url.get_secret_value(), pool_size=CONCURRENCY)


async def arq_defaults(settings: Settings) -> None:
    """Arq's worker as it comes."""
    await Worker([noop, mark], redis_settings=_redis(settings), handle_signals=False).main()


async def arq_tuned(settings: Settings) -> None:
    """Arq's worker that polls every millisecond."""
    await Worker([noop, mark], redis_settings=_redis(settings), handle_signals=False, **TUNED).main()


async def queue_edge(settings: Settings) -> None:
    """Our worker class with arq's constructor, without a ledger."""
    await QueueWorker([noop, mark], redis_settings=_redis(settings), handle_signals=False).main()


async def arq_tuned_inserts(settings: Settings) -> None:
    """Arq's worker that polls every millisecond; its function inserts one row in a transaction, and keeps no ledger."""
    functions = [func(ArqInserts(_engine(settings)).one_insert, name="one_insert")]
    await Worker(functions, redis_settings=_redis(settings), handle_signals=False, **TUNED).main()


async def plain_loop(settings: Settings) -> None:
    """No queue at all: ten tasks insert rows, and the ledger's rows with them."""
    engine = _engine(settings)
    numbers = iter(range(int(sys.argv[2]) + int(sys.argv[3])))

    async def one_after_the_other() -> None:
        for number in numbers:
            await insert_with_ledger_row(engine, number)

    await asyncio.gather(*(one_after_the_other() for _ in range(CONCURRENCY)))


async def heavylift(settings: Settings) -> None:
    """What `heavylift run` does."""
    settle_in(settings)
    await run_worker(settings)


WAYS: dict[str, Callable[[Settings], Coroutine[None, None, None]]] = {
    "arq": arq_defaults,
    "arq tuned": arq_tuned,
    "queue edge": queue_edge,
    "arq tuned, INSERT": arq_tuned_inserts,
    "heavylift": heavylift,
    "heavylift, uvloop": heavylift,
    "heavylift, logging": heavylift,
    "plain loop": plain_loop,
}


def main() -> None:
    """Be the worker of the given name."""
    way, *counts = sys.argv[1:]
    if counts:
        METER.expect(int(counts[0]), int(counts[1]))
    factory = uvloop.new_event_loop if way.endswith("uvloop") else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(WAYS[way](load_settings()))


if __name__ == "__main__":
    main()
