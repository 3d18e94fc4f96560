"""The driver's connection to a file, made safe: what is lost is never committed, and what is too slow is stopped.

Owns three things that SQLite and its driver leave to whoever uses them:

```text
a transaction that is gone    SQLite rolls all of it back by itself after some errors (disk full, I/O, no memory, a
                              statement stopped while it writes), savepoints and all. What follows would be committed a
                              statement at a time, and COMMIT would report a success: both are refused here
a statement that takes long   there is no timeout: a look at the clock every so many steps stops it
a connection given up         by a cancelled task: its thread must not go on writing, and must not hold the lock
```

Runs in the thread that aiosqlite gives each connection. Refuses to know SQLAlchemy.
"""

import math
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from worker.core.errors import SettingsError

STEPS: Final = 10_000
"""Steps of SQLite's machine between two looks at the clock: a fraction of a millisecond."""

PRAGMAS: Final = (
    "PRAGMA foreign_keys = ON",
    # what was reported as committed survives a loss of power: with NORMAL the log reaches the disk at checkpoints only
    "PRAGMA synchronous = FULL",
)

BUSY: Final = 5
"""SQLite's code for a lock that somebody else holds."""


@dataclass(slots=True)
class Limits:
    """What a connection's thread is told from outside of it.

    Attributes:
        statement_s: how long a statement, or a fetch, may take, in seconds; None for as long as it likes.
        given_up: nothing is run any more, and what runs is stopped.
    """

    statement_s: float | None = None
    given_up: bool = False


class FileConnection(sqlite3.Connection):
    """A connection to a file. Made by `open_file`.

    Attributes:
        limits: of its statements.
    """

    limits: Limits
    _begun: bool = False
    _deadline: float = math.inf
    _last_error: sqlite3.Error | None = None

    def start(self, limits: Limits) -> None:
        """Keep to some limits from now on."""
        self.limits = limits
        self.set_progress_handler(self._is_over, STEPS)

    def cursor(self, factory: Any = None) -> Any:  # noqa: ANN401 - as the driver's
        """A cursor whose statements keep to the limits."""
        return super().cursor(factory or FileCursor)

    def commit(self) -> None:
        """COMMIT. One that fails ends the transaction, as everywhere else: SQLite would leave it open, lock and all.

        Raises:
            sqlite3.OperationalError: there is nothing to commit any more, because SQLite rolled the transaction back.
            sqlite3.IntegrityError: a deferred foreign key is violated.
        """
        try:
            self.check()
            with self.watched():
                super().commit()
        except sqlite3.Error:
            self.rollback()
            raise
        self._begun, self._last_error = False, None

    def rollback(self) -> None:
        """ROLLBACK, of which nothing may be left to do."""
        self._deadline = math.inf
        self._begun, self._last_error = False, None
        super().rollback()

    def check(self) -> None:
        """Make sure that the transaction that was begun still is.

        Raises:
            sqlite3.OperationalError: it is not, or the connection was given up; with the code of what ended it.
        """
        if self.limits.given_up:
            raise _error("the connection was given up", sqlite3.SQLITE_INTERRUPT, None)
        if self._begun and not self.in_transaction:
            code = getattr(self._last_error, "sqlite_errorcode", sqlite3.SQLITE_ABORT)
            why = f" after: {self._last_error}" if self._last_error else ""
            raise _error(f"SQLite has rolled the whole transaction back{why}", code, self._last_error)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Something that SQLite is asked, under the limits."""
        allowed = self.limits.statement_s
        self._deadline = math.inf if allowed is None else monotonic() + allowed
        try:
            yield
        except sqlite3.Error as error:
            self._last_error = error
            raise
        except (OverflowError, UnicodeEncodeError) as error:
            # the driver's own, before anything is sent: an integer of more than 64 bits, a lone surrogate
            raise sqlite3.DataError(f"SQLite cannot store the value: {error}") from error
        finally:
            self._deadline = math.inf
            self._begun = self._begun or self.in_transaction

    def _is_over(self) -> bool:
        return self.limits.given_up or monotonic() > self._deadline


class FileCursor(sqlite3.Cursor):
    """A cursor of a `FileConnection`."""

    connection: FileConnection

    def execute(self, sql: str, parameters: Any = ()) -> "FileCursor":  # noqa: ANN401 - as the driver's
        """Run one statement."""
        self.connection.check()
        with self.connection.watched():
            super().execute(sql, parameters)
        return self

    def executemany(self, sql: str, parameters: Iterable[Any]) -> "FileCursor":
        """Run one statement for each of some parameters; the limit is of all of them together."""
        self.connection.check()
        with self.connection.watched():
            super().executemany(sql, parameters)
        return self

    def fetchone(self) -> Any:  # noqa: ANN401 - a row is what the statement selects
        """The next row."""
        with self.connection.watched():
            return super().fetchone()

    def fetchmany(self, size: int | None = 1) -> list[Any]:
        """The next rows."""
        with self.connection.watched():
            return super().fetchmany(size)

    def fetchall(self) -> list[Any]:
        """The rows that are left."""
        with self.connection.watched():
            return super().fetchall()


def open_file(path: str, limits: Limits, *, busy_s: float, uri: bool) -> FileConnection:
    """Open a connection to a file, in the thread that is going to use it.

    Args:
        path: of the file; a URI where `uri` says so.
        limits: to be kept to.
        busy_s: how long the file's lock is waited for, in seconds.
        uri: whether `path` is a URI.

    Raises:
        SettingsError: the file cannot have a write-ahead log.
        sqlite3.Error: the file cannot be opened.
    """
    # the driver begins no transaction of its own
    connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None, factory=FileConnection, uri=uri)
    try:
        connection.start(limits)
        _keep_log(connection, path)
        for pragma in PRAGMAS:
            connection.execute(pragma)
    except BaseException:
        connection.close()
        raise
    return connection


def _keep_log(connection: FileConnection, path: str) -> None:
    # kept in the file: only the first connection ever has something to change, for which it must be alone
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise SettingsError(
            f"The SQLite database {path!r} keeps no write-ahead log (its journal mode is {mode!r}), without which "
            "whoever reads and whoever writes stop each other. Put the file on a local disk, for example "
            "DATABASE_URL=sqlite:////var/lib/app/app.db"
        )


def busy(seconds: float) -> sqlite3.OperationalError:
    """The error for a lock that was not had in time, as SQLite itself raises it."""
    return _error(f"database is locked: another transaction of this process had it for {seconds:g} s", BUSY, None)


def _error(text: str, code: int, cause: BaseException | None) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    error.__cause__ = cause
    return error
