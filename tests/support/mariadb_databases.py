"""Databases of the tests' own on a MariaDB: a migrated template, and for each test a clone of its tables and triggers.

MariaDB copies no database by itself. What its SHOW statements say of the template is asked once and replayed.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import aiomysql
import pytest
from pymysql.constants import CLIENT
from sqlalchemy import URL, make_url
from sqlmodel import SQLModel

from tests.support.chosen import Backend
from tests.support.mariadb import INSTALL, MariaDbProcess, find_mariadbd
from tests.support.sessions import end_sessions
from tests.support.templates import fill_template

TEMPLATE = "heavylift_template"


def missing_mariadb() -> str | None:
    """What to install where there is no MariaDB to start; None where there is one."""
    return None if find_mariadbd() else f"MariaDB is not installed: {INSTALL}"


@contextmanager
def start(
    folder: Path, models: Sequence[type[SQLModel]], options: Mapping[str, str] | None = None
) -> Iterator["MariaDbServer"]:
    """Start a server and make its template; stopped at the end.

    Without a MariaDB the test is skipped, and fails where everything has to be there.

    Args:
        folder: for its files.
        models: whose tables are in the template beside the ledger.
        options: of the server, over those that make it quick.
    """
    missing = missing_mariadb()
    if missing and os.environ.get("CI") == "true":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    with MariaDbProcess(folder, options) as process:
        yield asyncio.run(MariaDbServer.make(process, models))


@dataclass(frozen=True, slots=True)
class Recipe:
    """What makes a database that is like another one.

    Attributes:
        origin: the name of the other one.
        options: of CREATE DATABASE.
        tables: statements that make its tables, empty.
        rows: statements that fill those that are not empty in the other one, from there.
        triggers: statements that make its triggers.
    """

    origin: str
    options: str
    tables: Sequence[str]
    rows: Sequence[str]
    triggers: Sequence[str]

    @classmethod
    async def read(cls, cursor: Any, origin: str) -> Self:
        """What a database says of itself."""
        created = await _ask(cursor, f"SHOW CREATE DATABASE `{origin}`")
        options = created[0][1].partition("`" + origin + "`")[2]
        tables, rows = [], []
        for name, _ in await _ask(cursor, f"SHOW FULL TABLES FROM `{origin}` WHERE Table_type = 'BASE TABLE'"):
            tables.append((await _ask(cursor, f"SHOW CREATE TABLE `{origin}`.`{name}`"))[0][1])
            if await _ask(cursor, f"SELECT 1 FROM `{origin}`.`{name}` LIMIT 1"):
                columns = await _ask(
                    cursor,
                    "SELECT column_name FROM information_schema.columns WHERE is_generated = 'NEVER'"
                    f" AND table_schema = '{origin}' AND table_name = '{name}' ORDER BY ordinal_position",
                )
                listed = ", ".join(f"`{column}`" for (column,) in columns)
                rows.append(f"INSERT INTO `{name}` ({listed}) SELECT {listed} FROM `{origin}`.`{name}`")
        triggers = [
            (await _ask(cursor, f"SHOW CREATE TRIGGER `{origin}`.`{row[0]}`"))[0][2]
            for row in await _ask(cursor, f"SHOW TRIGGERS FROM `{origin}`")
        ]
        return cls(origin, options, tables, rows, triggers)

    async def follow(self, cursor: Any, name: str) -> None:
        """Make a database by it."""
        before = [f"CREATE DATABASE `{name}` {self.options}", f"USE `{name}`", "SET foreign_key_checks = 0"]
        # one packet for all of it: each statement apart would wait for its answer
        await _ask(cursor, ";\n".join([*before, *self.tables, *self.rows, "COMMIT"]))
        for trigger in self.triggers:
            await _ask(cursor, trigger)


@dataclass(frozen=True, slots=True)
class MariaDbServer:
    """A running server with a template.

    Attributes:
        process: of it.
        recipe: of the template.
        backend: which database it is.
    """

    process: MariaDbProcess
    recipe: Recipe
    backend: Backend = "mariadb"

    @classmethod
    async def make(cls, process: MariaDbProcess, models: Sequence[type[SQLModel]]) -> Self:
        """Make the template of a server that has none.

        Args:
            process: of the server, running.
            models: whose tables are in the template beside the ledger.
        """
        url = process.url
        async with _cursor(url) as cursor:
            await _ask(cursor, f"CREATE DATABASE {TEMPLATE} CHARACTER SET utf8mb4")
            await fill_template(driver_url(url, TEMPLATE), models)
            return cls(process, await Recipe.read(cursor, TEMPLATE))

    @property
    def url(self) -> str:
        """Of the server, with any database."""
        return self.process.url

    def fresh(self) -> AbstractAsyncContextManager[str]:
        """The URL of a new clone of the template, dropped at the end."""
        return _made(self.url, self.recipe)

    @asynccontextmanager
    async def empty(self) -> AsyncIterator[str]:
        """The URL of a new database that holds nothing, dropped at the end."""
        async with _made(self.url, Recipe(TEMPLATE, self.recipe.options, (), (), ())) as url:
            yield url


def driver_url(url: str, database: str) -> str:
    """SQLAlchemy's URL of one database of a server."""
    return _parsed(url).set(database=database).render_as_string(hide_password=False)


@asynccontextmanager
async def copy_of(url: str) -> AsyncIterator[str]:
    """The URL of a new copy of a database that nobody writes to, dropped at the end."""
    origin = make_url(url).database
    assert origin is not None
    async with _cursor(url) as cursor:
        recipe = await Recipe.read(cursor, origin)
    async with _made(url, recipe) as copy:
        yield copy


@asynccontextmanager
async def _made(url: str, recipe: Recipe) -> AsyncIterator[str]:
    name = f"test_{uuid4().hex[:12]}"
    async with _cursor(url) as cursor:
        await recipe.follow(cursor, name)
    try:
        yield driver_url(url, name)
    finally:
        # DROP would wait for what others still have open in the database
        await end_sessions(driver_url(url, name), lambda _: True)
        async with _cursor(url) as cursor:
            await _ask(cursor, f"DROP DATABASE `{name}`")


@asynccontextmanager
async def _cursor(url: str) -> AsyncIterator[Any]:
    """A cursor outside of any database, which takes several statements at once and commits each."""
    parsed = _parsed(url)
    connection = await aiomysql.connect(
        host=parsed.host,
        port=parsed.port or 3306,
        user=parsed.username,
        password=parsed.password or "",
        client_flag=CLIENT.MULTI_STATEMENTS,
        autocommit=True,
        charset="utf8mb4",
    )
    try:
        async with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


async def _ask(cursor: Any, statements: str) -> Sequence[tuple[Any, ...]]:
    """Run statements; the rows of the last."""
    await cursor.execute(statements)
    rows = await cursor.fetchall()
    while await cursor.nextset():
        rows = await cursor.fetchall()
    return list(rows or ())


def _parsed(url: str) -> URL:
    return make_url(url).set(drivername="mysql+aiomysql")
