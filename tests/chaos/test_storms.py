"""Runs of every job at once, by several workers, while something goes wrong again and again.

After each storm every run has succeeded, tables, audit rows, counts and files are those of an undisturbed worker, Redis
holds nothing of any run, and no worker has ended by itself.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from operator import attrgetter
from pathlib import Path

import pytest

from tests.conftest import SHOP
from tests.support import strikes
from tests.support.breakable import Breakable, start_breakable
from tests.support.chaos_size import chance, sized
from tests.support.chosen import Backend
from tests.support.fault_plan import FaultsByChance
from tests.support.fault_proxy import FaultProxy
from tests.support.fleet import Fleet
from tests.support.forge import Forge
from tests.support.storm import Aftermath, Storm
from tests.support.strikes import Scene, Strike
from tests.support.workload import Workload
from worker.embedded import RedisProcess

pytestmark = [pytest.mark.storm, pytest.mark.timeout(1800)]

WORKERS = 3
WAVES, BLOWS = sized(3, 4), sized(1, 2)
"""Of runs; of each of them."""

ON_WORKERS = (strikes.kill_a_worker, strikes.stop_a_worker, strikes.stall_a_worker)
ON_DATABASE = (strikes.end_sessions, strikes.restart_database, strikes.crash_database)
ON_REDIS = (
    strikes.restart_redis,
    strikes.crash_redis,
    strikes.stall_redis,
    strikes.pause_redis,
    strikes.flush_redis,
    strikes.empty_redis,
)
named = attrgetter("__name__")

FEW_SLOTS = {"WORKER_CONCURRENCY": "2"}
"""Less than a wave of runs needs: some of them are queued when something happens."""

SERVERS = pytest.mark.only_on("postgresql", "mariadb", why="SQLite has no server to be hit, and no wire")

QUEUE = pytest.mark.only_on(
    *sized("postgresql", "postgresql sqlite mariadb").split(), why="Redis is the same beside each, so a part will do"
)


@pytest.fixture
def breakable(backend: Backend, tmp_path: Path) -> Iterator[Breakable]:
    """A database's server of this test's own, which keeps what was committed."""
    with start_breakable(backend, tmp_path / "server", SHOP) as server:
        yield server


@pytest.fixture
async def database_url(breakable: Breakable) -> AsyncIterator[str]:
    """A fresh database of it."""
    async with breakable.fresh() as url:
        yield url


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisProcess]:
    """A Redis of this test's own, with an append-only file."""
    with RedisProcess(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def storm(forge: Forge, environment: dict[str, str], redis: RedisProcess, tmp_path: Path) -> Storm:
    """A workload in a database of its own."""
    workload = Workload(tmp_path, WAVES)
    storm = Storm(
        workload, forge, {**environment, **workload.environment, "REDIS_URL": redis.url}, tmp_path / "peace.log"
    )
    await storm.prepare()
    return storm


async def rage(
    storm: Storm,
    breakable: Breakable,
    redis: RedisProcess,
    strike: Strike,
    changed: Mapping[str, str] | None = None,
) -> Aftermath:
    """The workload in peace, and under the blows of one kind; `changed` is the fleet's environment alone."""
    whole = await storm.in_peace()
    url = storm.environment["DATABASE_URL"]
    rand = chance(strike.__name__)
    environment = {**storm.environment, **(changed or {})}
    async with Fleet(storm.forge, environment, storm.workload.folder, WORKERS, rand) as fleet:
        found = await storm.rage(Scene(fleet, breakable, redis, url, rand), strike, BLOWS, whole)
    print(f"{found.story}\n{dict(found.outcomes)}")
    return found


def check(found: Aftermath) -> None:
    """Everything has succeeded, and is as it would be after a quiet day."""
    ended = {name: value for name, value in found.whole.record.items() if name.endswith(" status")}
    assert set(ended.values()) == {"succeeded"}
    assert found.outcomes["succeeded"] == len(ended), (found.outcomes, found.story)
    assert found.struck.differences(found.whole) == [], found.story


@pytest.mark.parametrize("strike", ON_WORKERS, ids=named)
async def test_workers_die_and_stand_still(
    storm: Storm, breakable: Breakable, redis: RedisProcess, strike: Strike
) -> None:
    """Killed, stopped or stalled past their leases, workers lose no run, do nothing twice and count no failure."""
    found = await rage(storm, breakable, redis, strike)
    check(found)
    assert set(found.outcomes) <= {"succeeded", "interrupted"}, found.outcomes


@SERVERS
@pytest.mark.parametrize("strike", ON_DATABASE, ids=named)
async def test_the_database_goes_away(storm: Storm, breakable: Breakable, redis: RedisProcess, strike: Strike) -> None:
    """Its sessions ended, the server restarted or crashed in mid-chunk: runs are tried again, and none fails."""
    found = await rage(storm, breakable, redis, strike)
    check(found)
    assert all(outcome.startswith(("succeeded", "retryat after")) for outcome in found.outcomes), found.outcomes


@QUEUE
@pytest.mark.parametrize("strike", ON_REDIS, ids=named)
async def test_the_queue_goes_away(storm: Storm, breakable: Breakable, redis: RedisProcess, strike: Strike) -> None:
    """Restarted, crashed, silent or without its data, with runs under way, queued and deferred: each run ends, once."""
    found = await rage(storm, breakable, redis, strike, FEW_SLOTS)
    check(found)
    # `cleanup` asks Redis which runs it holds
    allowed = {"succeeded", "retryat after UnreachableError None"}
    assert set(found.outcomes) <= allowed, found.outcomes


@SERVERS
async def test_the_wire_is_bad(storm: Storm, breakable: Breakable, redis: RedisProcess) -> None:
    """COMMITs lost, held back or landing late, connections cut: three workers fence each other off, and do no harm."""
    plan = FaultsByChance(chance("a bad wire"))
    url = storm.environment["DATABASE_URL"]
    async with FaultProxy(url, plan) as proxy:
        through = {"DATABASE_URL": proxy.url(url)}
        found = await rage(storm, breakable, redis, strikes.wait_a_while, through)
    print(plan.told)
    check(found)
    assert all(outcome.startswith(("succeeded", "retryat after")) for outcome in found.outcomes), found.outcomes
