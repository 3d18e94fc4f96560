"""How transactions begin on SQLite: those that write hold the file's write lock from the beginning, readers wait for nobody.

A transaction that reads first and writes later may find that what it read is no longer the newest, which no wait cures
(BUSY_SNAPSHOT). So whoever may write says BEGIN IMMEDIATE and then is the only writer: what it reads stays true until
its COMMIT, without any lock on rows. Whoever only reads says BEGIN, sees one moment of the file, and cannot write.

Owns connections' making and transactions' beginning. Refuses databases that are no files: several connections, and
several processes, must see one.
"""

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Final

import aiosqlite
from sqlalchemy import Connection, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry, ManagesConnection
from sqlalchemy.util import await_only

from worker.core.errors import SettingsError
from worker.core.settings import Settings
from worker.database.sqlite import decimals
from worker.database.sqlite.driver import Limits, busy, open_file
from worker.database.sqlite.turns import Turns

_READS_ONLY: Final = "heavylift_reads_only"

READ_ONLY: Final[Mapping[str, object]] = {_READS_ONLY: True}
"""Execution options of a connection whose transactions only read."""

FETCHED: Final = 64
"""Rows that the driver's own iteration would fetch at once; nothing here iterates so."""


class FileDriver(aiosqlite.Connection):
    """The driver's connection, with what its thread is told.

    Attributes:
        limits: of its statements.
        busy_s: how long its transactions wait for the write lock, in seconds.
        reads_only: whether the file refuses writes of this connection now.
    """

    def __init__(self, path: str, busy_s: float, *, uri: bool) -> None:
        self.limits = Limits()
        self.busy_s = busy_s
        self.reads_only = False
        super().__init__(partial(open_file, path, self.limits, busy_s=busy_s, uri=uri), FETCHED)
        # as SQLAlchemy has it of those that it makes itself: a forgotten connection must not keep the process alive
        self._thread.daemon = True


def connection_options(settings: Settings) -> dict[str, object]:
    """Arguments of `create_async_engine`.

    Raises:
        SettingsError: DATABASE_URL names no file.
    """
    _check_is_file(settings)
    busy_s = settings.lock_timeout_ms / 1000

    def connect(path: str, *, uri: bool = False, **_: object) -> FileDriver:
        return FileDriver(path, busy_s, uri=uri)

    return {"connect_args": {"async_creator_fn": connect}}


def watch_engine(engine: AsyncEngine) -> None:
    """Have the engine's transactions begin as this module says, and what is given up stop at once."""
    turns = Turns()
    core, pool = engine.sync_engine, engine.sync_engine.pool

    @event.listens_for(core, "connect")
    def connected(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # until its functions are written
        with suppress(NotImplementedError):
            decimals.register(connection)

    @event.listens_for(core, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get(_READS_ONLY):
            _allow_writes(connection, allowed=False)
            connection.exec_driver_sql("BEGIN")
            return
        driver = driver_of(connection.connection)
        try:
            await_only(turns.wait(driver, driver.busy_s))
        except TimeoutError as error:
            late = busy(driver.busy_s)
            raise OperationalError("BEGIN IMMEDIATE", None, late) from error
        try:
            _allow_writes(connection, allowed=True)
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except BaseException:
            turns.end(driver)
            raise

    def ended(connection: Connection) -> None:
        if not connection.invalidated:
            turns.end(driver_of(connection.connection))

    # a moment before the end, which the next one then waits for as for any other process
    event.listen(core, "commit", ended)
    event.listen(core, "rollback", ended)

    @event.listens_for(pool, "checkin")
    def returned(connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        if connection is not None:
            turns.end(record.driver_connection)

    @event.listens_for(pool, "invalidate")
    def given_up(connection: DBAPIConnection, record: ConnectionPoolEntry, _: BaseException | None) -> None:
        del connection
        driver_of(record).limits.given_up = True
        turns.end(record.driver_connection)


def driver_of(connection: ManagesConnection) -> FileDriver:
    """The driver's connection behind SQLAlchemy's."""
    driver: FileDriver = connection.driver_connection  # type: ignore[assignment]  # there is one while it is open
    return driver


def set_limits(connection: Connection, settings: Settings) -> None:
    """Say how long each statement of the transaction may take; how long it waits for the lock was said before.

    Args:
        connection: in a transaction that has sent nothing yet.
        settings: the limit.
    """
    driver_of(connection.connection).limits.statement_s = settings.statement_timeout_ms / 1000


def _allow_writes(connection: Connection, *, allowed: bool) -> None:
    driver = driver_of(connection.connection)
    if driver.reads_only is allowed:
        connection.exec_driver_sql(f"PRAGMA query_only = {'OFF' if allowed else 'ON'}")
        driver.reads_only = not allowed


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
