"""How transactions begin on SQLite: whoever writes holds the file's write lock from then on, whoever reads never waits.

A transaction that reads first and writes later may find that what it read is no longer the newest, which no wait cures
(BUSY_SNAPSHOT). So whoever may write says BEGIN IMMEDIATE and then is the only writer: what it reads stays true until
its COMMIT, without any lock on rows. Whoever only reads says BEGIN, sees one moment of the file, and cannot write.

Owns connections' making and transactions' beginning. Refuses databases that are no files: several connections, and
several processes, must see one.
"""

import asyncio
from collections.abc import Generator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

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
        self._ending: asyncio.Future[Any] | None = None
        # as SQLAlchemy has it of those that it makes itself: a forgotten connection must not keep the process alive
        self._thread.daemon = True

    def __await__(self) -> Generator[Any, None, aiosqlite.Connection]:
        """Open it. Where that fails, its thread has ended, too: it must not outlive the loop that it answers to."""
        try:
            return (yield from super().__await__())
        except BaseException:
            if self._ending is not None:
                yield from self._ending
            raise

    def stop(self) -> "asyncio.Future[Any] | None":
        """End the thread once it has done what it was asked before."""
        self._ending = super().stop()
        return self._ending


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
    core, begins = engine.sync_engine, _Beginnings()
    event.listen(core, "connect", _connected)
    event.listen(core, "begin", begins.begin)
    # a moment before the end, which the next one then waits for as for any other process
    event.listen(core, "commit", begins.ended)
    event.listen(core, "rollback", begins.ended)
    event.listen(core.pool, "checkin", begins.returned)
    event.listen(core.pool, "invalidate", begins.given_up)


class _Beginnings:
    """The beginnings of one engine's transactions, and whose turn it is to write."""

    def __init__(self) -> None:
        self._turns = Turns()

    def begin(self, connection: Connection) -> None:
        """BEGIN, or BEGIN IMMEDIATE."""
        if connection.get_execution_options().get(_READS_ONLY):
            _allow_writes(connection, allowed=False)
            connection.exec_driver_sql("BEGIN")
        else:
            self._begin_writing(connection)

    def _begin_writing(self, connection: Connection) -> None:
        driver = driver_of(connection.connection)
        try:
            await_only(self._turns.wait(driver, driver.busy_s))
        except TimeoutError as error:
            raise OperationalError("BEGIN IMMEDIATE", None, busy(driver.busy_s)) from error
        try:
            _allow_writes(connection, allowed=True)
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except BaseException:
            self._turns.end(driver)
            raise

    def ended(self, connection: Connection) -> None:
        """The next one may write."""
        if not connection.invalidated:
            self._turns.end(driver_of(connection.connection))

    def returned(self, connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        """The next one may write, whatever became of the transaction."""
        if connection is not None:
            self._turns.end(record.driver_connection)

    def given_up(self, connection: DBAPIConnection, record: ConnectionPoolEntry, error: BaseException | None) -> None:
        """Nothing that a connection was told before runs on."""
        del connection, error
        driver_of(record).limits.given_up = True
        self._turns.end(record.driver_connection)


def _connected(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
    del record
    # until its functions are written
    with suppress(NotImplementedError):
        decimals.register(connection)


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
