"""A TCP proxy before PostgreSQL that can lose, cut and delay the COMMITs of its clients."""

import asyncio
from contextlib import suppress
from enum import Enum
from types import TracebackType
from typing import Self

SIMPLE_QUERY = b"Q"


class Fault(Enum):
    """What happens to one COMMIT; the client's connection is lost each time."""

    NEVER_ARRIVES = "cut before the server sees it"
    REPLY_LOST = "the server commits, its reply is dropped"
    LANDS_LATE = "the client is cut first, and the server gets it a moment later"


class CommitProxy:
    """Use it as an async context manager; connect to `port` on 127.0.0.1, without TLS.

    Args:
        port: the server's.
        faults: by the ordinal, from 1, of a COMMIT among all that pass.
        late_s: how long a late COMMIT is held, in seconds.
    """

    def __init__(self, port: int, faults: dict[int, Fault], late_s: float = 0.5) -> None:
        self._upstream = port
        self._faults = faults
        self._late_s = late_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.commits = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        server, to_server = await asyncio.open_connection("127.0.0.1", self._upstream)
        replies = asyncio.ensure_future(_copy(server, to_client))
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await self._forward(client, to_server, server, to_client, replies)
        finally:
            replies.cancel()
            to_client.close()
            to_server.close()

    async def _forward(
        self,
        client: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        replies: asyncio.Future[None],
    ) -> None:
        # the first message has no type byte
        head = await client.readexactly(4)
        to_server.write(head + await client.readexactly(int.from_bytes(head) - 4))
        while True:
            head = await client.readexactly(5)
            message = head + await client.readexactly(int.from_bytes(head[1:]) - 4)
            if not (message.startswith(SIMPLE_QUERY) and message[5:].upper().startswith(b"COMMIT")):
                to_server.write(message)
                await to_server.drain()
                continue
            self.commits += 1
            fault = self._faults.get(self.commits)
            if fault is None:
                to_server.write(message)
                continue
            replies.cancel()
            await asyncio.gather(replies, return_exceptions=True)
            await self._fail(fault, message, to_server, server, to_client)
            return

    async def _fail(
        self,
        fault: Fault,
        commit: bytes,
        to_server: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
    ) -> None:
        if fault is Fault.NEVER_ARRIVES:
            return
        if fault is Fault.LANDS_LATE:
            to_client.close()
            await asyncio.sleep(self._late_s)
        to_server.write(commit)
        await to_server.drain()
        await server.read(1)


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.close()
