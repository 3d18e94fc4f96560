"""The queue against arq, and the whole runtime against a plain loop: one table, and each goal beside what it got.

    python benchmarks/queue [--quick] [--rounds 5]

Starts a PostgreSQL and a Redis of its own. Each worker is a process of its own, so that its processor time is its own;
the ways alternate, forth and back, and a ratio is the median of the rounds' ratios. One worker, ten jobs at a time.
`arq tuned` is arq's worker with poll_delay=0.001 and queue_read_limit=1000; with its defaults it is bound by its own
polling, and shown with fewer jobs. Commands are Redis' own count, those within scripts among them; round trips are the
reads that Redis made. No worker logs single jobs, but where that is said.

Fails where a goal is missed.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

from arq import create_pool

from benchmarks.queue.backlog import Figures, inserts, no_ops
from benchmarks.queue.enqueueing import WAYS, enqueue
from benchmarks.queue.pickup import Pickup, percentile, pick_up
from benchmarks.queue.report import (
    Goal,
    Series,
    rates,
    ratio,
    show_backlogs,
    show_enqueues,
    show_pickups,
    show_versions,
)
from benchmarks.queue.servers import QUIET, Stores, settings_for
from benchmarks.queue.work import READING
from worker.client import open_client
from worker.database.engine import open_database
from worker.database.migrate import migrate
from worker.declare.registry import REGISTRY
from worker.embedded import PostgresProcess, RedisProcess
from worker.queue.redis_settings import redis_settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: how often each way takes its turn.
        no_ops: jobs that do nothing.
        slow: of those, for arq with its defaults.
        inserts: jobs that insert a row.
        samples: jobs that find a worker idle.
    """

    rounds: int
    no_ops: int = 10_000
    slow: int = 2_000
    inserts: int = 2_000
    samples: int = 200


async def alternate(rounds: int, ways: Sequence[str], measure: Callable[[str], Awaitable[T]]) -> dict[str, list[T]]:
    """Measure each way once a round, every other round in the opposite order."""
    found: dict[str, list[T]] = {way: [] for way in ways}
    for turn in range(rounds):
        for way in ways if turn % 2 == 0 else ways[::-1]:
            found[way].append(await measure(way))
    return found


async def measure_all(stores: Stores, plan: Plan) -> list[Goal]:
    """Measure, print, and hold to the goals."""
    await show_versions(stores)

    async def no_op(way: str) -> Figures:
        return await no_ops(stores, way, plan.slow if way == "arq" else plan.no_ops)

    idle = await alternate(plan.rounds, ["arq", "arq tuned", "queue edge"], no_op)
    show_backlogs(f"{plan.no_ops:,} no-ops, without a ledger", idle, "arq tuned")

    rows = await alternate(
        plan.rounds,
        ["arq tuned, INSERT", "heavylift", "heavylift, uvloop", "heavylift, logging", "plain loop"],
        lambda way: inserts(stores, way, plan.inserts),
    )
    show_backlogs(f"{plan.inserts:,} one-INSERT jobs", rows, "arq tuned, INSERT")

    clients = await alternate(plan.rounds, WAYS, lambda way: enqueue(stores, way))
    show_enqueues(clients, WAYS[0])

    pickups = {way: await pick_up(stores, way, plan.samples) for way in ("arq tuned", "queue edge", "heavylift")}
    show_pickups(pickups)

    return [
        *_goals_of_the_edge(idle),
        *_goals_of_the_runtime(rows),
        *_goals_of_pickup(pickups["queue edge"]),
        Goal("enqueued in one call, to arq's gather", ratio(clients[WAYS[1]], clients[WAYS[0]]), 6, at_least=True),
    ]


def _goals_of_the_edge(found: Series) -> list[Goal]:
    ours, tuned = found["queue edge"], found["arq tuned"]
    cpu = ratio([one.cpu_us for one in ours], [one.cpu_us for one in tuned])
    return [
        Goal("no-ops a second, to tuned arq", ratio(rates(ours), rates(tuned)), 6, at_least=True),
        Goal("round trips a no-op", median(one.round_trips for one in ours), 0.25),
        Goal("commands a no-op", median(one.commands for one in ours), 8),
        Goal("CPU a no-op, to tuned arq", cpu, 1 / 8),
    ]


def _goals_of_the_runtime(found: Series) -> list[Goal]:
    ours = rates(found["heavylift"])
    tuned, loop = ratio(ours, rates(found["arq tuned, INSERT"])), ratio(ours, rates(found["plain loop"]))
    return [
        Goal("one-INSERT runs a second, to tuned arq without a ledger", tuned, 1.5, at_least=True),
        Goal("one-INSERT runs a second, to a plain loop", loop, 0.6, at_least=True),
    ]


def _goals_of_pickup(found: Pickup) -> list[Goal]:
    return [
        Goal("pickup from idle, p50", percentile(found.after_ms, 0.5), 1.5, unit=" ms"),
        Goal("pickup from idle, p99", percentile(found.after_ms, 0.99), 5, unit=" ms"),
        Goal("idle CPU", 100 * found.idle, 1, unit="%"),
    ]


async def run(postgres: PostgresProcess, redis: RedisProcess, plan: Plan) -> list[Goal]:
    """Make the tables, connect, and measure."""
    settings = settings_for(postgres, redis)
    database = open_database(settings, "benchmark")
    await migrate(database)
    async with database.engine.begin() as connection:
        await connection.run_sync(READING.create)
    pool = await create_pool(redis_settings(settings))
    async with open_client(settings, REGISTRY) as client:
        goals = await measure_all(Stores(settings, pool, database, client), plan)
    await pool.aclose(close_connection_pool=True)
    await database.dispose()
    return goals


def main() -> None:
    """Start servers, measure, print; fail where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=None, help="how often each way takes its turn (5; quick: 3)")
    parser.add_argument("--quick", action="store_true", help="a fifth of the jobs, a quarter of the samples")
    given = parser.parse_args()
    plan = Plan(given.rounds or 3, 2_000, 400, 400, 50) if given.quick else Plan(given.rounds or 5)
    with (
        tempfile.TemporaryDirectory() as place,
        PostgresProcess(Path(place) / "postgres") as postgres,
        RedisProcess(Path(place) / "redis", options=QUIET) as redis,
    ):
        goals = asyncio.run(run(postgres, redis, plan))
    print()
    for goal in goals:
        print(goal)
    sys.stdout.flush()
    missed = sum(not goal.holds for goal in goals)
    if missed:
        raise SystemExit(f"{missed} of {len(goals)} goals are missed")


if __name__ == "__main__":
    main()
