"""Tallies to be moved exactly once, on each database, and a forge of the workers that move them."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.conftest import JOBS, MODELS, ROOT
from tests.support.chaos_size import SEED, SIZE
from tests.support.databases import DatabaseServer
from tests.support.filling import fill_tallies
from tests.support.forge import Forge
from tests.support.played_runs import Place
from worker.core.settings import Settings
from worker.database.engine import Database

TALLIES = 30
Values = Callable[[], Awaitable[list[int]]]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say with a failure how it is repeated."""
    report = yield
    if report.failed:
        marks = " or ".join(sorted({"chaos", "storm"} & {mark.name for mark in item.iter_markers()}))
        again = f"HEAVYLIFT_SEED={SEED} HEAVYLIFT_CHAOS={SIZE} .venv/bin/python -m pytest -m '{marks}' '{item.nodeid}'"
        report.sections.append(("to repeat it", again))
    return report


@pytest.fixture
async def database_url(server: DatabaseServer) -> AsyncIterator[str]:
    """A fresh database with ledger and shop tables, on the server in question."""
    async with server.fresh() as url:
        yield url


@pytest.fixture(scope="session")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """Forks worker processes; it has imported what they would."""
    modules = (*MODELS.split(","), *JOBS.split(","))
    with Forge(tmp_path_factory.mktemp("forge"), {**os.environ, "PYTHONPATH": str(ROOT)}, modules) as started:
        yield started


@pytest.fixture
def place(forge: Forge, environment: dict[str, str], tmp_path: Path) -> Place:
    """This test's database, Redis and folder."""
    return Place(forge, environment, tmp_path)


@pytest.fixture
async def values(database: Database) -> Values:
    """Make the tallies, all 0, and return a function that reads them."""
    async with database.engine.begin() as connection:
        await fill_tallies(connection, TALLIES)

    async def read() -> list[int]:
        async with database.reading() as connection:
            return list((await connection.execute(text("SELECT value FROM tally ORDER BY id"))).scalars())

    return read


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of ten rows, always."""
    return settings.model_copy(update={"chunk_start_rows": 10, "chunk_min_rows": 10, "chunk_max_rows": 10})
