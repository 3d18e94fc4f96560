"""What a command works with: its settings, servers and a connected client.

Owns the choice between configured servers and the embedded ones under `.heavylift/`. Refuses to migrate a database that
somebody configured: that is `heavylift migrate`, said by a person. An embedded one is a toy of its folder.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import typer
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from worker.client import Client, open_client
from worker.core.errors import UnreachableError
from worker.core.settings import Settings, load_settings
from worker.database.classify import describe
from worker.database.engine import open_database
from worker.database.migrate import migrate
from worker.declare.registry import Registry
from worker.declare.tables import Tables
from worker.embedded import ensure_servers

EMBEDDED = Path(".heavylift")


@contextmanager
def use_servers(*, redis: bool = True, migrated: bool = True) -> Iterator[Settings]:
    """The settings of a command, with embedded servers for as long as it lasts where no others are configured.

    Args:
        redis: whether the command needs Redis.
        migrated: whether an embedded database is brought to the newest ledger first.

    Raises:
        SettingsError: a setting cannot work, or there is nothing to start in the place of one that is not set.
        UnreachableError: an embedded server did not come up.
    """
    settings = load_settings()
    own_database = settings.database_url is None
    own_redis = redis and settings.redis_url is None
    if not own_database and not own_redis:
        yield settings
        return
    unset = " and ".join([*(["DATABASE_URL"] if own_database else []), *(["REDIS_URL"] if own_redis else [])])
    typer.echo(f"note: without {unset}, embedded servers in {EMBEDDED}/ are used", err=True)
    with ensure_servers(EMBEDDED, postgres=own_database, redis=own_redis) as servers:
        urls = {"database_url": servers.urls.database_url, "redis_url": servers.urls.redis_url}
        settings = load_settings(**{name: url for name, url in urls.items() if url is not None})
        if own_database and migrated:
            asyncio.run(migrate_ledger(settings))
        yield settings


async def migrate_ledger(settings: Settings) -> tuple[str | None, str]:
    """Bring the ledger to the version that this program needs.

    Returns:
        The version before (None for no ledger) and the version now.

    Raises:
        UnreachableError: the database did not answer.
        LedgerVersionError: the ledger is newer than this program.
    """
    database = open_database(settings, "migrate")
    try:
        await database.check()
        with _clearly():
            return await migrate(database)
    finally:
        await database.dispose()


@asynccontextmanager
async def connect(
    settings: Settings, registry: Registry | None = None, tables: Tables | None = None
) -> AsyncIterator[Client]:
    """A client of a command.

    Args:
        settings: of the command.
        registry: the jobs that may be enqueued; None for a command that only looks, which needs no Redis.
        tables: the tables known here; None leaves their check to the worker.

    Raises:
        HeavyliftError: a server did not answer, now or later, or has no ledger.
    """
    looking = registry is None
    with _clearly():
        async with open_client(settings, registry or Registry(), tables, redis=not looking) as client:
            yield client


@contextmanager
def _clearly() -> Iterator[None]:
    """A server that fails in the middle of a command is told of in one line, as one that never answered is."""
    try:
        yield
    except SQLAlchemyError as error:
        found = describe(error)
        raise UnreachableError(f"The database failed this command: {found.type}: {found.message}") from error
    except RedisError as error:
        raise UnreachableError(f"Redis failed this command: {type(error).__name__}: {error}") from error
