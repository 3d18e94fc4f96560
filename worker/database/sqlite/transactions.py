"""How transactions begin on SQLite: whoever writes holds the file's write lock from then on, whoever reads never waits.

A transaction that reads first and writes later may find that what it read is no longer the newest, which no wait cures
(BUSY_SNAPSHOT). So whoever may write says BEGIN IMMEDIATE and then is the only writer: what it reads stays true until
its COMMIT, without any lock on rows. Whoever only reads says BEGIN, sees one moment of the file, and cannot write.

Owns connections' making and transactions' beginning. Refuses databases that are no files: several connections, and
several processes, must see one.
"""

import sqlite3
from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry, ManagesConnection
from sqlalchemy.util import await_only

from worker.core.errors import SettingsError
from worker.core.settings import Settings
from worker.database.sqlite.driver import BUSY, Beginning, coded
from worker.database.sqlite.file_driver import FileDriver
from worker.database.sqlite.turns import turns_at

_READS_ONLY: Final = "heavylift_reads_only"

OLDEST: Final = (3, 38, 0)
"""The first SQLite that has RETURNING (3.35) and JSON in every build."""

READ_ONLY: Final[Mapping[str, object]] = {_READS_ONLY: True}
"""Execution options of a connection whose transactions only read."""


def connection_options(settings: Settings) -> dict[str, object]:
    """Arguments of `create_async_engine`.

    Raises:
        SettingsError: DATABASE_URL names no file, or Python's SQLite is too old.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        raise SettingsError(
            f"This Python has SQLite {sqlite3.sqlite_version}, and {'.'.join(map(str, OLDEST))} is the oldest that "
            "returns what it changes and reads JSON. Use a newer Python, or another database, for example "
            "DATABASE_URL=postgresql+asyncpg://user:password@localhost/app"
        )
    _check_is_file(settings)
    lock_s = settings.lock_timeout_ms / 1000

    def connect(path: str, *, uri: bool = False, **_: object) -> FileDriver:
        return FileDriver(path, lock_s, uri=uri)

    return {"connect_args": {"async_creator_fn": connect}}


def watch_engine(engine: AsyncEngine) -> None:
    """Have the engine's transactions begin as this module says, and what is given up stop at once."""
    core = engine.sync_engine
    event.listen(core, "begin", _begin)
    # a moment before the end, which the next one then waits for as for any other process
    event.listen(core, "commit", _ended)
    event.listen(core, "rollback", _ended)
    event.listen(core.pool, "checkin", _returned)
    event.listen(core.pool, "invalidate", _given_up)


def _begin(connection: Connection) -> None:
    """Have the transaction begin with its first statement, in the same trip."""
    driver = driver_of(connection.connection)
    if connection.get_execution_options().get(_READS_ONLY):
        driver.orders.begin = Beginning.READING
        return
    turns = turns_at(driver.path)
    try:
        await_only(turns.wait(driver, driver.orders.lock_s))
    except TimeoutError as error:
        late = coded(f"database is locked: this process writes to it for {driver.orders.lock_s:g} s", BUSY)
        raise OperationalError(Beginning.WRITING.value, None, late) from error
    driver.turns = turns
    driver.orders.begin, driver.orders.durable = Beginning.WRITING, True


def _ended(connection: Connection) -> None:
    if not connection.invalidated:
        _end_turn(driver_of(connection.connection))


def _returned(connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
    """Give the turn up, whatever became of the transaction."""
    if connection is not None:
        _end_turn(driver_of(record))


def _given_up(connection: DBAPIConnection, record: ConnectionPoolEntry, error: BaseException | None) -> None:
    """See that nothing runs on that a connection was told before."""
    del connection, error
    driver = driver_of(record)
    driver.orders.given_up = True
    _end_turn(driver)


def _end_turn(driver: FileDriver) -> None:
    if driver.turns is not None:
        driver.turns.end(driver)
        driver.turns = None


def driver_of(connection: ManagesConnection) -> FileDriver:
    """The driver's connection behind SQLAlchemy's."""
    driver: FileDriver = connection.driver_connection  # type: ignore[assignment]  # there is one while it is open
    return driver


def set_limits(connection: Connection, settings: Settings, *, durable: bool = True) -> None:
    """Say how long each statement of the transaction may take; how long it waits for the lock was said before.

    Args:
        connection: in a transaction that has sent nothing yet.
        settings: the limit.
        durable: whether COMMIT waits for the disk.
    """
    orders = driver_of(connection.connection).orders
    orders.statement_s, orders.durable = settings.statement_timeout_ms / 1000, durable


def _check_is_file(settings: Settings) -> None:
    if settings.database_url is None:
        return
    url = make_url(settings.database_url.get_secret_value())
    path = (url.database or "").removeprefix("file:")
    if path and not path.startswith(":memory:") and url.query.get("mode") != "memory":
        return
    raise SettingsError(
        f"DATABASE_URL names {url.database or 'no file'!r}, a database that each connection has for itself and that is "
        "gone with it. A worker needs several connections, and other processes need to see what it writes: name a "
        "file, for example DATABASE_URL=sqlite:///app.db, or with an absolute path sqlite:////var/lib/app/app.db"
    )
