"""A MariaDB of the tests of the ledger's own, which they may kill, and for each test a database and a worker on it."""

import os
from collections.abc import AsyncIterator, Iterator
from itertools import count

import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from tests.support.mariadb import INSTALL, MariaDbProcess, find_mariadbd
from tests.support.mariadb_hand import run_on
from worker.core.settings import Settings
from worker.database.engine import Database, open_database
from worker.database.ledger import Ledger
from worker.database.migrate import migrate

NAMES = count(1)


@pytest.fixture(scope="session")
def own_mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDbProcess]:
    """A MariaDB that a test may fill up, restart and kill; small packets are enough for it."""
    if find_mariadbd() is None:
        missing = f"MariaDB is not installed: {INSTALL}"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    with MariaDbProcess(tmp_path_factory.mktemp("mariadb") / "server", {"max-allowed-packet": "1M"}) as server:
        yield server


@pytest.fixture
async def own_url(own_mariadb: MariaDbProcess) -> AsyncIterator[str]:
    """The URL of a database of the test's own on it, empty."""
    name = f"test{next(NAMES)}"
    # with a default in which neither case nor accents tell texts apart, as servers have it
    await run_on(own_mariadb.url, f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci")
    yield make_url(own_mariadb.url).set(database=name).render_as_string(hide_password=False)
    await run_on(own_mariadb.url, f"DROP DATABASE {name}")


@pytest.fixture
def settings(own_url: str) -> Settings:
    """A worker's settings for it, with short limits."""
    return Settings(database_url=SecretStr(own_url), lock_timeout_ms=1000, statement_timeout_ms=5000)


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    """A worker's engine on it."""
    opened = open_database(settings, "one")
    yield opened
    await opened.dispose()


@pytest.fixture
async def ledger(database: Database, settings: Settings) -> Ledger:
    """A migrated ledger in it."""
    await migrate(database)
    return Ledger(database, settings, "one")
