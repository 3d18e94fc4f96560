"""Databases of the tests' own, on every kind of server: made from a migrated template, or as a copy of another.

Owns what a test asks of a server, and who answers it for which kind. Each kind has a module of its own.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import SQLModel

from tests.support import mariadb_databases, postgres_databases, sqlite_databases
from tests.support.chosen import BACKENDS, Backend
from worker.core.settings import Settings
from worker.database.engine import open_database
from worker.embedded import PostgresProcess


class DatabaseServer(Protocol):
    """A server of the test session's own, or a folder for SQLite's files, with a migrated template."""

    @property
    def backend(self) -> Backend:
        """Which database it is."""
        ...

    def fresh(self) -> AbstractAsyncContextManager[str]:
        """The URL of a new clone of the template, dropped at the end."""
        ...

    def empty(self) -> AbstractAsyncContextManager[str]:
        """The URL of a new database that holds nothing, dropped at the end."""
        ...


@contextmanager
def start_server(name: str, folder: Path, models: Sequence[type[SQLModel]]) -> Iterator[DatabaseServer]:
    """Start a server of a kind that `HEAVYLIFT_DATABASES` may name, and make its template; stopped at the end.

    Args:
        name: of the kind.
        folder: for its files.
        models: whose tables are in the template beside the ledger.
    """
    backend = BACKENDS[name]
    if backend == "sqlite":
        yield sqlite_databases.SqliteFolder.make(folder, models)
    elif backend == "mariadb":
        with mariadb_databases.start(folder, models) as mariadb:
            yield mariadb
    else:
        bin_dir = postgres_databases.older_bin_dir() if name == "older" else None
        with PostgresProcess(folder, options=postgres_databases.QUICK, bin_dir=bin_dir) as postgres:
            postgres_databases.make_template(postgres.url, models)
            yield postgres_databases.PostgresServer(postgres.url)


_COPIES: Mapping[str, postgres_databases.CopyOf] = {
    "postgresql": postgres_databases.copy_of,
    "sqlite": sqlite_databases.copy_of,
    "mysql": mariadb_databases.copy_of,
    "mariadb": mariadb_databases.copy_of,
}


def copy_of(url: str) -> AbstractAsyncContextManager[str]:
    """The URL of a new copy of a database that nobody is connected to, dropped at the end."""
    return _COPIES[make_url(url).get_backend_name()](url)


@asynccontextmanager
async def transaction(url: str) -> AsyncIterator[AsyncConnection]:
    """A transaction of a database, committed at the end, as a worker's connections are."""
    database = open_database(Settings(database_url=SecretStr(url)), "test")
    try:
        async with database.engine.begin() as connection:
            yield connection
    finally:
        await database.dispose()
