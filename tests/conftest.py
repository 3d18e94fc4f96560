"""Servers of the tests' own, and a fresh, migrated database and an empty Redis for each test.

The schema is made once, in a template; a test's database is a clone of it, made in milliseconds.
"""

import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from pydantic import SecretStr
from redis.asyncio import Redis
from sqlmodel import SQLModel

from tests.support import shop_models
from tests.support.chaos_size import SEED, SIZE
from tests.support.chosen import BACKENDS, CHOSEN, Backend
from tests.support.databases import DatabaseServer, start_server
from tests.support.generated import deselect_nowhere, generate
from tests.support.mariadb_databases import missing_mariadb
from tests.support.postgres_databases import QUICK, PostgresServer, driver_url, fresh_database, make_template
from tests.support.spelling import SPELLINGS, Spelling
from tests.support.stores import SetClock, Stores, open_stores
from worker.core.clock import SystemClock
from worker.core.settings import Settings
from worker.database.engine import Database, open_database
from worker.database.ledger import Ledger
from worker.declare.tables import find_tables
from worker.embedded import PostgresProcess, RedisProcess
from worker.main import load_declared
from worker.run.governor import Governor
from worker.run.runner import Runner
from worker.run.stop_signal import StopSignal

ROOT = Path(__file__).parent.parent
MODELS = "tests.support.shop_models"
SHOP: Sequence[type[SQLModel]] = [shop_models.Item, shop_models.Tally]
"""The models whose tables a test finds in its database."""

JOBS = "jobs,tests.support.scripted_jobs"

MakeRunner = Callable[..., Runner]


def pytest_report_header() -> list[str]:
    """Which databases the tests run on, what is missing for it, and what those that break things do."""
    missing = missing_mariadb() if "mariadb" in CHOSEN else None
    return [
        f"databases: {', '.join(CHOSEN)} (HEAVYLIFT_DATABASES)",
        *([f"databases: WITHOUT mariadb: {missing}"] if missing else []),
        f"chaos: {SIZE} (HEAVYLIFT_CHAOS) from seed {SEED} (HEAVYLIFT_SEED)",
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that uses `server` is made for each database."""
    generate(metafunc)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test that is for no database here is left out."""
    deselect_nowhere(config, items)


@dataclass(frozen=True, slots=True)
class Servers:
    """This test session's own PostgreSQL 18 and Redis; `database_url` is that of the server's first database."""

    postgres: PostgresProcess
    redis: RedisProcess

    @property
    def database_url(self) -> str:
        """SQLAlchemy's URL of the database `postgres`."""
        return driver_url(self.postgres.url)

    @property
    def redis_url(self) -> str:
        """The URL of database 0."""
        return self.redis.url


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresProcess]:
    """Start a PostgreSQL 18 once, with a template; it ends with the test process, killed or not."""
    with PostgresProcess(tmp_path_factory.mktemp("servers") / "postgres", options=QUICK) as postgres:
        make_template(postgres.url, SHOP)
        yield postgres


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """Start a Redis once; it ends with the test process, killed or not."""
    with RedisProcess(tmp_path_factory.mktemp("servers") / "redis") as redis:
        yield redis


@pytest.fixture(scope="session")
def servers(postgres_server: PostgresProcess, redis_server: RedisProcess) -> Servers:
    """Both servers."""
    return Servers(postgres_server, redis_server)


StartServer = Callable[[str], DatabaseServer]


@pytest.fixture(scope="session")
def start_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts the server of a database by its name, once a session, when it is first asked for."""
    with ExitStack() as stack:
        started: dict[str, DatabaseServer] = {}

        def start(name: str) -> DatabaseServer:
            if name not in started and name == "18":
                started[name] = PostgresServer(request.getfixturevalue("postgres_server").url)
            elif name not in started:
                folder = tmp_path_factory.mktemp(name) / "server"
                started[name] = stack.enter_context(start_server(name, folder, SHOP))
            return started[name]

        yield start


@pytest.fixture(scope="session")
def server_name(request: pytest.FixtureRequest) -> str:
    """The name of each database in turn; a test that uses it, by `database_url` or otherwise, runs on each."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def server(server_name: str, start_once: StartServer) -> DatabaseServer:
    """The server of each database in turn, shared by the tests of a session."""
    return start_once(server_name)


@pytest.fixture
def backend(server_name: str) -> Backend:
    """Which database the test runs on."""
    return BACKENDS[server_name]


@pytest.fixture
def spelling(backend: Backend) -> Spelling:
    """How the database that the test runs on writes what differs."""
    return SPELLINGS[backend]


@pytest.fixture
async def database_url(postgres_server: PostgresProcess) -> AsyncIterator[str]:
    """A fresh database with ledger and shop tables."""
    async with fresh_database(postgres_server.url) as url:
        yield url


@pytest.fixture
async def redis_url(redis_server: RedisProcess) -> str:
    """An empty Redis."""
    async with Redis.from_url(redis_server.url) as redis:
        await redis.flushall()
    return redis_server.url


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    """A worker's settings for this test's database and Redis; files are read under `tmp_path`."""
    return Settings(
        database_url=SecretStr(database_url),
        redis_url=SecretStr(redis_url),
        models=(MODELS,),
        jobs=tuple(JOBS.split(",")),
        data_dirs=(tmp_path,),
        backoff_base_s=0.05,
        poll_s=0.05,
    )


@pytest.fixture
def environment(database_url: str, redis_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a process for this test's database and Redis, as a user would set it."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("WORKER_", "DATABASE_", "REDIS_"))
    }
    return {
        **kept,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "WORKER_MODELS": MODELS,
        "WORKER_JOBS": JOBS,
        "WORKER_DATA_DIRS": str(tmp_path),
        "WORKER_POLL_S": "0.05",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    """An engine on this test's database."""
    opened = open_database(settings, "test")
    yield opened
    await opened.dispose()


@pytest.fixture
async def stores(settings: Settings, database: Database) -> AsyncIterator[Stores]:
    """Both stores, empty."""
    async with open_stores(settings, database) as opened:
        yield opened


@pytest.fixture
def clock() -> SetClock:
    """A clock that stands until the test sets it."""
    return SetClock()


@pytest.fixture
async def make_runner(settings: Settings) -> AsyncIterator[MakeRunner]:
    """A function that makes runners, each with an engine of its own."""
    async with AsyncExitStack() as stack:

        def make(name: str = "one", changed: Settings | None = None, stop: StopSignal | None = None) -> Runner:
            chosen = changed or settings
            database = open_database(chosen, name)
            stack.push_async_callback(database.dispose)
            registry = load_declared(chosen).registry
            tables = find_tables((MODELS,), {})
            log = structlog.get_logger()
            ledger, clock = Ledger(database, chosen, name), SystemClock()
            governor = Governor(database, chosen, clock, lambda _: None)
            return Runner(
                ledger, registry, tables, chosen, stop or StopSignal(), clock, lambda _: None, log, governor=governor
            )

        yield make
