"""aiosqlite's connection with fewer trips to its thread: one a statement, where four would be made.

Each trip wakes a thread and waits for Python's lock twice, which in a busy process takes far longer than the statement.

Owns the trips. What happens in the thread is `worker.database.sqlite.driver`'s.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aiosqlite

from worker.database.sqlite.driver import FileConnection, FileCursor, Orders, open_file
from worker.database.sqlite.turns import Turns

T = TypeVar("T")

AT_ONCE: Final = 200
"""Rows that come along with a statement's answer. A stream's others are fetched as it asks for them."""


class FileDriver(aiosqlite.Connection):
    """The driver's connection.

    Attributes:
        path: of the file.
        orders: what its thread is told.
        turns: where its transaction stands in a queue, if it writes.
    """

    def __init__(self, path: str, lock_s: float, *, uri: bool = False) -> None:
        self.path = path
        self.orders = Orders(lock_s)
        self.turns: Turns | None = None
        # of these each is counted by one thread alone
        self._asked = 0
        self._answered = 0
        self._uri = uri
        self._file: FileConnection | None = None
        super().__init__(self._open, AT_ONCE)
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
            if self._file is not None:
                # opened while nobody waited for it any more
                self._file.close()
            raise

    def stop(self) -> "asyncio.Future[Any] | None":
        """End the thread once it has done what it was asked before."""
        self._ending = super().stop()
        return self._ending

    def cursor(self) -> "OneTripCursor":  # type: ignore[override]  # it does all that is asked of one here
        """A cursor, which costs nothing until it runs a statement."""
        return OneTripCursor(self)

    async def commit(self) -> None:
        """COMMIT, if anything was said."""
        if not self._is_idle():
            await self.ask(self.file.commit)

    async def rollback(self) -> None:
        """ROLLBACK, if anything is left to be rolled back: a connection that comes back to its pool is asked to."""
        if not self._is_idle():
            await self.ask(self.file.rollback)

    async def ask(self, work: Callable[..., T], *arguments: object) -> T:
        """Have something done in the thread."""
        self._asked += 1
        found: T = await self._execute(self._answer, work, *arguments)  # type: ignore[no-untyped-call]  # it has no types
        return found

    def _answer(self, work: Callable[..., T], *arguments: object) -> T:
        try:
            return work(*arguments)
        finally:
            self._answered += 1

    def _open(self) -> FileConnection:
        self._file = open_file(self.path, self.orders, uri=self._uri)
        return self._file

    def _is_idle(self) -> bool:
        """Whether there is no transaction, nor can be one: nothing that was asked is still to be answered."""
        if self._asked != self._answered or self.file.has_begun:
            return False
        self.orders.begin = None
        return True

    @property
    def file(self) -> FileConnection:
        """The connection to the file, for its thread."""
        if self._file is None:
            raise ValueError("no active connection")
        return self._file


class OneTripCursor:
    """A cursor as SQLAlchemy uses one.

    Attributes:
        description: of the columns of the last statement's rows; None where it has none.
        rowcount: how many rows it changed.
        lastrowid: the number of the last row that it inserted.
        arraysize: how many rows a fetch of many gives, unless told.
    """

    def __init__(self, driver: FileDriver) -> None:
        self._driver = driver
        self._cursor: FileCursor | None = None
        self._rows: deque[Any] = deque()
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self.close()

    async def execute(self, sql: str, parameters: Any = ()) -> Self:  # noqa: ANN401 - as the driver's
        """Run one statement; its first rows come along."""
        await self._driver.ask(self._run, sql, parameters)
        return self

    async def executemany(self, sql: str, parameters: Iterable[Any]) -> Self:
        """Run one statement for each of some parameters."""
        await self._driver.ask(self._run_many, sql, list(parameters))
        return self

    async def fetchone(self) -> Any:  # noqa: ANN401 - a row is what the statement selects
        """The next row."""
        if not self._rows and self._cursor is not None:
            await self._driver.ask(self._fetch, AT_ONCE)
        return self._rows.popleft() if self._rows else None

    async def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        """The next rows."""
        wanted = size or self.arraysize
        if len(self._rows) < wanted and self._cursor is not None:
            await self._driver.ask(self._fetch, wanted - len(self._rows))
        return [self._rows.popleft() for _ in range(min(wanted, len(self._rows)))]

    async def fetchall(self) -> Sequence[Any]:
        """The rows that are left."""
        if self._cursor is not None:
            await self._driver.ask(self._fetch_rest)
        rows = list(self._rows)
        self._rows.clear()
        return rows

    async def close(self) -> None:
        """Forget the rows that are left."""
        self._rows.clear()
        if self._cursor is not None:
            await self._driver.ask(self._end)

    def _run(self, sql: str, parameters: Any) -> None:  # noqa: ANN401 - as the driver's
        self._note(self._driver.file.cursor().execute(sql, parameters))
        if self.description:
            self._fetch(AT_ONCE)
        else:
            self._end()

    def _run_many(self, sql: str, parameters: Sequence[Any]) -> None:
        self._note(self._driver.file.cursor().executemany(sql, parameters))
        self._end()

    def _note(self, cursor: FileCursor) -> None:
        self._cursor = cursor
        self.description, self.lastrowid = cursor.description, cursor.lastrowid
        self.rowcount = cursor.rowcount

    def _fetch(self, rows: int) -> None:
        if self._cursor is None:
            return
        found = self._cursor.fetchmany(rows)
        self._rows.extend(found)
        if len(found) < rows:
            self._end()

    def _fetch_rest(self) -> None:
        if self._cursor is not None:
            self._rows.extend(self._cursor.fetchall())
            self._end()

    def _end(self) -> None:
        if self._cursor is not None:
            # of a statement that changes rows and returns them, known when all are fetched
            self.rowcount = self._cursor.rowcount
            self._cursor.close()
            self._cursor = None
