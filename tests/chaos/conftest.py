"""Tallies to be moved exactly once, and a forge of the workers that move them."""

import os
from collections.abc import Awaitable, Callable, Iterator

import pytest
from sqlalchemy import text

from tests.conftest import JOBS, MODELS, ROOT
from tests.support.forge import Forge
from worker.core.settings import Settings
from worker.database.engine import Database

TALLIES = 30
Values = Callable[[], Awaitable[list[int]]]


@pytest.fixture(scope="session")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """Forks worker processes; it has imported what they would."""
    modules = (*MODELS.split(","), *JOBS.split(","))
    with Forge(tmp_path_factory.mktemp("forge"), {**os.environ, "PYTHONPATH": str(ROOT)}, modules) as started:
        yield started


@pytest.fixture
async def values(database: Database) -> Values:
    """Make the tallies, all 0, and return a function that reads them."""
    async with database.engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO tally (id, value) SELECT n, 0 FROM generate_series(1, :most) AS n"), {"most": TALLIES}
        )

    async def read() -> list[int]:
        async with database.engine.connect() as connection:
            return list((await connection.execute(text("SELECT value FROM tally ORDER BY id"))).scalars())

    return read


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of ten rows, always."""
    return settings.model_copy(update={"chunk_start_rows": 10, "chunk_min_rows": 10, "chunk_max_rows": 10})
