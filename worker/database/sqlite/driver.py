"""SQLite's connection in its thread, made safe: what is lost is never committed, and what is too slow is stopped.

Owns what SQLite and Python's module for it leave to whoever uses them:

```text
a transaction that is gone    SQLite rolls all of it back by itself after some errors (disk full, I/O, no memory, a
                              statement stopped while it writes), savepoints and all. What follows would be committed a
                              statement at a time, and COMMIT would report a success: both are refused here
a statement that takes long   there is no timeout: a look at the clock every so many steps stops it
the write lock                SQLite's own wait for it looks ever more seldom, and so may miss every gap between the
                              transactions of another process for as long as it likes
a connection given up         by a cancelled task: its thread must not go on writing, nor waiting for the lock
```

Runs in the thread that a connection has for itself. Refuses to know SQLAlchemy and the event loop.
"""

import math
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from time import monotonic, sleep
from typing import Any, Final

from worker.core.errors import SettingsError
from worker.database.sqlite import decimals

STEPS: Final = 10_000
"""Steps of SQLite's machine between two looks at the clock: a fraction of a millisecond."""

LOOK_S: Final = 0.002
"""How long to wait before another look at the write lock, in seconds."""

BUSY: Final = 5
"""SQLite's code for a lock that somebody else holds."""


class Beginning(Enum):
    """How a transaction begins, as soon as it has something to say."""

    READING = "BEGIN"
    WRITING = "BEGIN IMMEDIATE"


@dataclass(slots=True)
class Orders:
    """What a connection's thread is told from outside of it.

    Attributes:
        lock_s: how long a transaction waits for the write lock, in seconds.
        statement_s: how long a statement, or a fetch, may take, in seconds; None for as long as it likes.
        begin: how the transaction begins that has not begun yet; None where none is to begin.
        durable: whether its COMMIT waits for the disk.
        given_up: nothing is run any more, and what runs is stopped.
    """

    lock_s: float
    statement_s: float | None = None
    begin: Beginning | None = None
    durable: bool = True
    given_up: bool = False


class FileConnection(sqlite3.Connection):
    """A connection to a file. Made by `open_file`."""

    _orders: Orders
    _begun: bool = False
    _reads_only: bool = False
    _durable: bool = True
    _deadline: float = math.inf
    _last_error: sqlite3.Error | None = None

    def obey(self, orders: Orders) -> None:
        """Do from now on as these say, as they are at the time."""
        self._orders = orders
        self.set_progress_handler(self._is_over, STEPS)

    @property
    def has_begun(self) -> bool:
        """Whether a transaction has begun and not ended, even if SQLite has rolled it back."""
        return self._begun or self.in_transaction

    def cursor(self, factory: Any = None) -> Any:  # noqa: ANN401 - as the module's own
        """A cursor whose statements keep to the limits."""
        return super().cursor(factory or FileCursor)

    def commit(self) -> None:
        """COMMIT. One that fails ends the transaction, as everywhere else: SQLite would leave it open, lock and all.

        Raises:
            sqlite3.OperationalError: there is nothing to commit any more, because SQLite rolled the transaction back.
            sqlite3.IntegrityError: a deferred foreign key is violated.
        """
        try:
            self._check()
            with self.watched():
                super().commit()
        except sqlite3.Error:
            self.rollback()
            raise
        self._orders.begin, self._begun, self._last_error = None, False, None

    def rollback(self) -> None:
        """ROLLBACK, of which nothing may be left to do."""
        self._deadline = math.inf
        self._orders.begin, self._begun, self._last_error = None, False, None
        super().rollback()

    def ready(self) -> None:
        """Make sure that a statement runs in its transaction, which begins if it has not begun.

        Raises:
            sqlite3.OperationalError: the transaction is gone, or the connection was given up, with the code of what
                ended it; or somebody else has the write lock.
        """
        self._check()
        beginning, self._orders.begin = self._orders.begin, None
        if beginning is not None:
            with self.watched():
                self._begin(beginning)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Something that SQLite is asked, under the limits."""
        allowed = self._orders.statement_s
        self._deadline = math.inf if allowed is None else monotonic() + allowed
        try:
            yield
        except sqlite3.Error as error:
            self._last_error = error
            raise
        except (OverflowError, UnicodeEncodeError) as error:
            # the module's own, before anything is sent: an integer of more than 64 bits, a lone surrogate
            raise sqlite3.DataError(f"SQLite cannot store the value: {error}") from error
        finally:
            self._deadline = math.inf
            self._begun = self._begun or self.in_transaction

    def _check(self) -> None:
        if self._orders.given_up:
            raise coded("the connection was given up", sqlite3.SQLITE_INTERRUPT)
        if self._begun and not self.in_transaction:
            code = getattr(self._last_error, "sqlite_errorcode", sqlite3.SQLITE_ABORT)
            why = f" after: {self._last_error}" if self._last_error else ""
            raise coded(f"SQLite has rolled the whole transaction back{why}", code) from self._last_error

    def _begin(self, beginning: Beginning) -> None:
        # plain cursors: nothing of this is a statement of the transaction
        cursor = super().cursor()
        reads_only = beginning is Beginning.READING
        if self._reads_only is not reads_only:
            cursor.execute(f"PRAGMA query_only = {'ON' if reads_only else 'OFF'}")
            self._reads_only = reads_only
        if not reads_only and self._durable is not self._orders.durable:
            cursor.execute(f"PRAGMA synchronous = {'FULL' if self._orders.durable else 'NORMAL'}")
            self._durable = self._orders.durable
        if reads_only:
            cursor.execute(beginning.value)
        else:
            self._take_the_lock(cursor, beginning.value)

    def _take_the_lock(self, cursor: sqlite3.Cursor, statement: str) -> None:
        until = monotonic() + self._orders.lock_s
        cursor.execute("PRAGMA busy_timeout = 0")
        try:
            while True:
                try:
                    cursor.execute(statement)
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode & 0xFF != BUSY or self._orders.given_up or monotonic() > until:
                        raise
                    sleep(LOOK_S)
                else:
                    return
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {self._orders.lock_s * 1000:.0f}")

    def _is_over(self) -> bool:
        return self._orders.given_up or monotonic() > self._deadline


class FileCursor(sqlite3.Cursor):
    """A cursor of a `FileConnection`."""

    connection: FileConnection

    def execute(self, sql: str, parameters: Any = ()) -> "FileCursor":  # noqa: ANN401 - as the module's own
        """Run one statement."""
        self.connection.ready()
        with self.connection.watched():
            super().execute(sql, parameters)
        return self

    def executemany(self, sql: str, parameters: Iterable[Any]) -> "FileCursor":
        """Run one statement for each of some parameters; the limit is of all of them together."""
        self.connection.ready()
        with self.connection.watched():
            super().executemany(sql, parameters)
        return self

    def fetchmany(self, size: int | None = 1) -> list[Any]:
        """The next rows."""
        with self.connection.watched():
            return super().fetchmany(size)

    def fetchall(self) -> list[Any]:
        """The rows that are left."""
        with self.connection.watched():
            return super().fetchall()


def open_file(path: str, orders: Orders, *, uri: bool) -> FileConnection:
    """Open a connection to a file, in the thread that is going to use it.

    Args:
        path: of the file; a URI where `uri` says so.
        orders: to be obeyed.
        uri: whether `path` is a URI.

    Raises:
        SettingsError: the file cannot have a write-ahead log.
        sqlite3.Error: the file cannot be opened.
    """
    connection = sqlite3.connect(
        path,
        timeout=orders.lock_s,
        # the module begins no transaction of its own
        isolation_level=None,
        # whoever waits for the thread may ask what became of its transaction, and close what the thread left open
        check_same_thread=False,
        factory=FileConnection,
        uri=uri,
    )
    try:
        connection.obey(orders)
        _keep_log(connection, path)
        connection.execute("PRAGMA foreign_keys = ON")
        # what was reported as committed survives a loss of power: with NORMAL, the log reaches the disk now and then
        connection.execute("PRAGMA synchronous = FULL")
        decimals.register(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def coded(text: str, code: int) -> sqlite3.OperationalError:
    """An error that carries one of SQLite's codes, as SQLite's own do."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


def _keep_log(connection: FileConnection, path: str) -> None:
    # kept in the file: only the first connection ever has something to change, for which it must be alone
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise SettingsError(
            f"The SQLite database {path!r} keeps no write-ahead log (its journal mode is {mode!r}), without which "
            "whoever reads and whoever writes stop each other. Put the file on a local disk, for example "
            "DATABASE_URL=sqlite:////var/lib/app/app.db"
        )
