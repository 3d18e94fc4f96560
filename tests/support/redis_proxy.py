"""A TCP proxy before Redis or a Sentinel: speaks TLS to those who do, falls silent, loses the reply of a command."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Self

TLS_HANDSHAKE = b"\x16"


class RedisProxy:
    """Use it as an async context manager; connect to `port` of localhost.

    Args:
        port: the server's.
        tls: for clients that begin with a handshake; others are served in plain, as Sentinels want it.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._upstream = port
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._muted: set[asyncio.StreamWriter] = set()
        self._doomed: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self.port: int = self._listener.getsockname()[1]
        self.lost = b""
        """The word of a command that is carried out, and whose reply is lost with its connection; empty for none."""

    def mute(self) -> None:
        """From now on nothing passes on the connections that there are."""
        self._muted |= self._clients

    async def __aenter__(self) -> Self:
        self._listener.setblocking(False)
        self._begin(self._accept())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # what was aborted is closed in the loop's next round
        await asyncio.sleep(0)
        self._listener.close()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.add(asyncio.create_task(work))

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(self._listener)
            client.setblocking(False)
            self._begin(self._serve(client))

    async def _serve(self, client: socket.socket) -> None:
        ends: list[asyncio.StreamWriter] = []
        try:
            with suppress(OSError):  # a client that refuses the certificate goes away
                reader, writer = await self._welcome(client)
                ends.append(writer)
                self._clients.add(writer)
                server, to_server = await asyncio.open_connection("127.0.0.1", self._upstream)
                ends.append(to_server)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._replies(server, writer))
                    both.create_task(self._requests(reader, to_server, writer))
        finally:
            for end in ends:
                # no parting words, which TLS would wait for
                end.transport.abort()
            if not ends:
                client.close()

    async def _welcome(self, client: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        spoken = asyncio.Event()
        loop.add_reader(client, spoken.set)
        try:
            await spoken.wait()
        finally:
            loop.remove_reader(client)
        secure = self._tls if client.recv(1, socket.MSG_PEEK) == TLS_HANDSHAKE else None
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, client, ssl=secure)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _requests(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        async for data in _pieces(source):
            if self.lost and self.lost in data:
                self.lost = b""
                self._doomed.add(client)
            if client not in self._muted:
                sink.write(data)
                await sink.drain()
        sink.transport.abort()

    async def _replies(self, source: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        async for data in _pieces(source):
            if client in self._doomed:
                break
            if client not in self._muted:
                client.write(data)
                await client.drain()
        client.transport.abort()


async def _pieces(source: asyncio.StreamReader) -> AsyncIterator[bytes]:
    with suppress(ConnectionError):
        while data := await source.read(65536):
            yield data
