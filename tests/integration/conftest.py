"""Real servers for the tests of the database layer, each started once a session and thrown away."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Table, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.support.chosen import POSTGRES_VERSIONS
from tests.support.mariadb import MariaDbProcess, find_mariadbd
from tests.support.mysql_tables import Merging, mysql_engine
from tests.support.postgres_databases import older_bin_dir
from worker.core.merge_counts import MergeCounts
from worker.database.postgres.catalogue import read_table_facts
from worker.database.postgres.merge import PostgresMerge
from worker.embedded.postgres import PostgresProcess

Upsert = Callable[..., Awaitable[MergeCounts]]
SCHEMAS = count(1)


@pytest.fixture(scope="session", params=POSTGRES_VERSIONS)
def each_postgres(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server, once with a PostgreSQL 18 and once with an older one."""
    folder = Path(tmp_path_factory.mktemp("postgres")) / "server"
    options = {"fsync": "off", "deadlock_timeout": "50ms"}
    bin_dir = older_bin_dir() if request.param == "older" else None
    with PostgresProcess(folder, options=options, bin_dir=bin_dir) as server:
        yield server.url


@pytest.fixture
async def postgres(each_postgres: str) -> AsyncIterator[AsyncEngine]:
    """An engine on a schema of the test's own."""
    schema = f"test{next(SCHEMAS)}"
    engine = create_async_engine(
        make_url(each_postgres).set(drivername="postgresql+asyncpg"),
        connect_args={"server_settings": {"search_path": f"{schema}, public"}},
    )
    async with engine.begin() as connection:
        await connection.execute(text(f"CREATE SCHEMA {schema}"))
    yield engine
    await engine.dispose()


@pytest.fixture
def execute(postgres: AsyncEngine) -> Callable[[str], Awaitable[None]]:
    """Runs SQL statements, separated by semicolons, and commits."""

    async def run(statements: str) -> None:
        async with postgres.begin() as connection:
            for statement in filter(str.strip, statements.split(";")):
                await connection.exec_driver_sql(statement)

    return run


@pytest.fixture
def upsert(postgres: AsyncEngine) -> Upsert:
    """Upserts rows, given as dictionaries with the same keys, through `PostgresMerge`, and commits."""

    async def run(
        table: Table,
        rows: Sequence[Mapping[str, object]],
        *,
        key: Sequence[str] = ("id",),
        update: Sequence[str] | None = None,
    ) -> MergeCounts:
        columns = list(rows[0])
        taken = [name for name in columns if name not in key] if update is None else update
        async with postgres.begin() as connection:
            facts = await read_table_facts(connection, table)
            merge = PostgresMerge(table, facts, columns=columns, key=key, update=taken)
            return await merge.apply(connection, [[row[name] for row in rows] for name in columns])

    return run


@pytest.fixture(scope="session")
def mariadb_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a MariaDB."""
    if find_mariadbd() is None:
        pytest.skip("no mariadbd is installed")
    with MariaDbProcess(Path(tmp_path_factory.mktemp("mariadb")) / "server") as server:
        yield server.url


@pytest.fixture
async def mysql(mariadb_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine of the dialect's own connections, on a database of the test's own."""
    async with mysql_engine(mariadb_url) as engine:
        yield engine


@pytest.fixture
def merging(mysql: AsyncEngine) -> Merging:
    """Runs statements and upserts on that database."""
    return Merging(mysql)
