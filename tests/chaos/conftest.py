"""Tallies to be moved exactly once, and runners to move them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
import structlog
from sqlalchemy import text

from tests.conftest import MODELS
from worker.core.clock import SystemClock
from worker.core.settings import Settings
from worker.database.engine import Database, open_database
from worker.database.ledger import Ledger
from worker.declare.tables import find_tables
from worker.main import load_declared
from worker.run.runner import Runner
from worker.run.stop_signal import StopSignal

TALLIES = 30
MakeRunner = Callable[..., Runner]
Values = Callable[[], Awaitable[list[int]]]


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
def small_chunks(settings: Settings) -> Settings:
    """Settings with chunks of ten rows, always."""
    return settings.model_copy(update={"chunk_start_rows": 10, "chunk_min_rows": 10, "chunk_max_rows": 10})


@pytest.fixture
async def make_runner(small_chunks: Settings) -> AsyncIterator[MakeRunner]:
    """A function that makes runners, each with an engine of its own."""
    async with AsyncExitStack() as stack:

        def make(name: str = "one", changed: Settings | None = None, stop: StopSignal | None = None) -> Runner:
            chosen = changed or small_chunks
            database = open_database(chosen, name)
            stack.push_async_callback(database.dispose)
            registry = load_declared(chosen).registry
            tables = find_tables((MODELS,), {})
            log = structlog.get_logger()
            ledger = Ledger(database, chosen, name)
            return Runner(ledger, registry, tables, chosen, stop or StopSignal(), SystemClock(), lambda _: None, log)

        yield make
