"""aiomysql's connection, taught what a worker's transactions need of it.

Owns five things. What a transaction begins with (limits, READ ONLY) travels in the packet of its first statement. A
transaction that nothing was sent in ends without a word. One that the server rolled back takes no more statements. A
server that says nothing is given up. A stream that was left half-read is given up with its connection, not read to
its end. Refuses to choose limits.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final
from weakref import WeakSet

import aiomysql
from sqlalchemy.pool import ManagesConnection

QUERY: Final = 0x03
"""COM_QUERY, the protocol's command that every statement is sent by."""

LOST: Final = 2013
UNREACHABLE: Final = 2003
PACKET_TOO_LARGE: Final = 1153
INVALID_TEXT: Final = 1300

ROLLED_BACK: Final = frozenset({1213, 1614, 1206, 1020})
"""Errors by which the server says that it has rolled back the whole transaction, savepoints and all.

A deadlock, the same of an XA transaction, a full lock table, and a snapshot that met a newer row.
"""

LOCK_WAIT_TIMEOUT: Final = 1205

MODES: Final = (
    "STRICT_TRANS_TABLES,STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,"
    "NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO"
)
"""All of sql_mode, whatever the server's own is: no value is cut short, made zero or numbered anew in silence."""

_OPENING: Final = (
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    f"SET SESSION autocommit=0, time_zone='+00:00', sql_mode='{MODES}', sql_safe_updates=0, foreign_key_checks=1",
    "SET SESSION unique_checks=1",
)
_FACTS: Final = "SELECT @@max_allowed_packet, @@innodb_rollback_on_timeout, CONNECTION_ID()"

_HEADER_BYTES: Final = 4
_LARGEST_PACKET: Final = 1 << 30


class WorkerConnection(aiomysql.Connection):  # type: ignore[misc]  # aiomysql has no types
    """A connection of the driver.

    Attributes:
        wanted: session variables that the transaction that comes needs, by name; of all others that were set before,
            the server's own values.
        brief: session variables for as long as the transaction lasts: what they do to idle connections, too, ends
            with it.
        beginning: statements that it begins with.
        ending: statements that are sent along with its COMMIT or ROLLBACK.
        patience_s: how long the server may say nothing before it is given up.
        leaves_streams: whether a stream that is left half-read is given up with the connection. Reading it to its end
            would take as long as the table is large.
        family: the worker's connections, this one among them.
        server_id: the server's number of this connection.

    Args:
        patience_s: the attribute's usual value.
        family: the attribute.
        options: aiomysql's.
    """

    def __init__(self, *, patience_s: float, family: "WeakSet[WorkerConnection]", **options: object) -> None:
        super().__init__(**{**options, "autocommit": None})
        self._usual_patience_s = patience_s
        self._applied: dict[str, str] = {}
        self._spent: aiomysql.Error | None = None
        self._rolls_back = ROLLED_BACK
        self._most_bytes = _LARGEST_PACKET
        self.family = family
        self.server_id = 0
        self.untouched = True
        self.ending: tuple[str, ...] = ()
        self.prepare()

    @property
    def is_mariadb(self) -> bool:
        """Whether the server is a MariaDB, by what it said first."""
        return "mariadb" in self.server_version.lower()

    @property
    def is_open(self) -> bool:
        """Whether nothing has been heard of the connection's end."""
        reader = self._reader
        return not (self.closed or reader.eof_received or reader.exception() is not None)

    def _write_bytes(self, data: bytes) -> None:
        # event loops differ in what a connection says that was reset while nobody asked; uvloop's raises RuntimeError
        if not self.is_open:
            self.close()
            raise aiomysql.OperationalError(LOST, "The connection was lost while nothing was asked of it")
        super()._write_bytes(data)

    def escape(self, obj: Any) -> Any:  # noqa: ANN401 - the driver's
        """A value as SQL. aiomysql asks PyMySQL for bytes by a name that it has no more."""
        return f"_binary x'{obj.hex()}'" if isinstance(obj, bytes) else super().escape(obj)

    def prepare(self, *beginning: str) -> None:
        """Forget what the transaction that comes was to begin with, but for `beginning`."""
        self.wanted: Mapping[str, str] = {}
        self.brief: Mapping[str, str] = {}
        self.beginning = beginning
        self.patience_s = self._usual_patience_s
        self.leaves_streams = False

    async def open(self) -> None:
        """Connect, and make the session what the worker relies on."""
        await self._connect()
        await self._send("; ".join((*_OPENING, _FACTS)).encode(), len(_OPENING), unbuffered=False)
        ((self._most_bytes, on_timeout, self.server_id),) = self._result.rows
        if on_timeout:
            self._rolls_back = ROLLED_BACK | {LOCK_WAIT_TIMEOUT}
        self.family.add(self)

    async def query(self, sql: str | bytes, unbuffered: bool = False) -> int:  # noqa: FBT001, FBT002 - aiomysql's
        """Send a statement, after what the transaction begins with, and read its result or its first rows."""
        statement = _encoded(sql)
        if self._spent is not None:
            if not statement.startswith(b"ROLLBACK TO SAVEPOINT"):
                raise _refusal(self._spent)
            # the savepoint went with the transaction, and with it what it was to undo
            statement = b"DO 0"
        preludes, changed = self._preludes() if self.untouched else ((), {})
        packet = b"; ".join((*(prelude.encode() for prelude in preludes), statement))
        if len(packet) + _HEADER_BYTES > self._most_bytes:
            # the server would hang up, perhaps before its reason is read
            raise aiomysql.OperationalError(
                PACKET_TOO_LARGE,
                f"A statement of {len(packet)} bytes is more than the server's max_allowed_packet of "
                f"{self._most_bytes}. Raise that, or let less go into a chunk: WORKER_CHUNK_MAX_ROWS=1000",
            )
        self.untouched = False
        async with self._answered():
            try:
                await self._send(packet, len(preludes), unbuffered=unbuffered)
            except aiomysql.Error as error:
                if error.args and error.args[0] in self._rolls_back:
                    self._spent = error
                raise
        self._applied.update(changed)
        affected: int = self._affected_rows
        return affected

    async def commit(self) -> None:
        """COMMIT, where anything was sent."""
        spent, self._spent = self._spent, None
        if spent is not None:
            await self._end("ROLLBACK")
            raise _refusal(spent)
        await self._end("COMMIT")

    async def rollback(self) -> None:
        """ROLLBACK, where anything was sent; where a stream is left half-read, the connection's end does it."""
        if self._left_stream():
            self.close()
        if self.closed:
            self.untouched = True
        self._spent = None
        await self._end("ROLLBACK")

    async def ping(self, reconnect: bool = False) -> None:  # noqa: FBT001, FBT002 - aiomysql's
        """Ask whether the server answers; never connects anew."""
        del reconnect
        async with self._answered():
            await super().ping(reconnect=False)

    async def ensure_closed(self) -> None:
        """Say goodbye and close; closed all the same where nobody listens any more, or nobody waits for it."""
        try:
            with suppress(OSError):
                if self.is_open:
                    await super().ensure_closed()
        finally:
            self.close()

    def cursor(self, *kinds: type) -> Any:  # noqa: ANN401 - the driver's
        """A cursor; one that streams is a `Stream`."""
        return super().cursor(*(Stream if issubclass(kind, aiomysql.SSCursor) else kind for kind in kinds))

    async def _send(self, packet: bytes, preludes: int, *, unbuffered: bool) -> None:
        await self._execute_command(QUERY, packet)
        for _ in range(preludes):
            await self._read_ok_packet()
        await self._read_query_result(unbuffered=unbuffered)

    def _preludes(self) -> tuple[tuple[str, ...], dict[str, str]]:
        # what was set and is not asked for goes back to the server's own
        lasting = dict.fromkeys(self._applied, "DEFAULT") | dict(self.wanted)
        changed = {name: value for name, value in lasting.items() if self._applied.get(name) != value}
        settings = ", ".join(f"{name}={value}" for name, value in (changed | dict(self.brief)).items())
        return (*((f"SET SESSION {settings}",) if settings else ()), *self.beginning), changed

    async def _end(self, word: str) -> None:
        if self.untouched:
            return
        back = ", ".join(f"{name}=DEFAULT" for name in self.brief)
        parting = (*((f"SET SESSION {back}",) if back else ()), *self.ending)
        async with self._answered():
            await self._execute_command(QUERY, "; ".join((word, *parting)))
            for _ in range(1 + len(parting)):
                await self._read_ok_packet()
        self.untouched = True
        self.ending = ()

    @asynccontextmanager
    async def _answered(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.patience_s):
                yield
        except TimeoutError:
            # aiomysql closed it
            raise aiomysql.OperationalError(LOST, f"The server did not answer within {self.patience_s:g} s") from None

    def _left_stream(self) -> bool:
        return self.leaves_streams and self._result is not None and bool(self._result.unbuffered_active)


class Stream(aiomysql.SSCursor):  # type: ignore[misc]  # aiomysql has no types
    """A cursor whose rows come as they are fetched, each fetch within the connection's patience."""

    _connection: WorkerConnection | None

    async def fetchone(self) -> Any:  # noqa: ANN401 - a row is what the statement selects
        """The next row; None at the end."""
        async with self._answered():
            return await super().fetchone()

    async def fetchmany(self, size: int | None = None) -> list[Any]:
        """The next rows; none at the end."""
        async with self._answered():
            return [*await super().fetchmany(size)]

    async def close(self) -> None:
        """Let go of what is left: read where that is little, given up with the connection where it may be a table."""
        connection = self._connection
        if connection is not None and connection._left_stream():  # noqa: SLF001 - the two are one
            connection.close()
            self._connection = None
        await super().close()

    def _answered(self) -> AbstractAsyncContextManager[None]:
        if self._connection is None:
            raise aiomysql.InterfaceError("The stream is closed")
        return self._connection._answered()  # noqa: SLF001 - the two are one

    async def _show_warnings(self, connection: object) -> None:
        # what SQLAlchemy's own cursors leave out, too: nothing is cut short in silence under these modes
        del connection


def driver_of(connection: ManagesConnection) -> WorkerConnection:
    """The driver's connection behind SQLAlchemy's."""
    driver: WorkerConnection = connection.driver_connection  # type: ignore[assignment]  # there is one while it is open
    return driver


def _refusal(spent: aiomysql.Error) -> aiomysql.OperationalError:
    return aiomysql.OperationalError(spent.args[0], f"The server has rolled this transaction back: {spent.args[-1]}")


def _encoded(sql: str | bytes | bytearray) -> bytes:
    if isinstance(sql, bytes | bytearray):
        # the latter where aiomysql has put many rows together
        return bytes(sql)
    try:
        return sql.encode()
    except UnicodeEncodeError as error:
        raise aiomysql.DataError(
            INVALID_TEXT, f"A text has a lone surrogate, which UTF-8 cannot write: {error.reason}"
        ) from None
