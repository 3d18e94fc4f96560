"""A TCP proxy before PostgreSQL that counts the round trips of its clients."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

ANSWERS = (b"Z", b"1")
"""The server's messages on which a client goes on: it is ready for a query, and has parsed one that is to be prepared.

After the second the driver sends more at once, and only then is the first sent.
"""


class CountingProxy:
    """Use it as an async context manager; connect to `port` on 127.0.0.1, without TLS.

    Attributes:
        round_trips: the server's answers so far, to statements, BEGIN and COMMIT alike; having one prepared is one.

    Args:
        port: the server's.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.round_trips = 0
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
        server, to_server = await asyncio.open_connection("127.0.0.1", self._upstream)
        self._tasks.add(asyncio.ensure_future(self._requests(client, to_server)))
        self._tasks.add(asyncio.ensure_future(self._answers(server, to_client)))

    async def _requests(self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        while data := await client.read(65536):
            to_server.write(data)
        to_server.close()

    async def _answers(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await server.readexactly(5)
                self.round_trips += head.startswith(ANSWERS)
                to_client.write(head + await server.readexactly(int.from_bytes(head[1:]) - 4))
        to_client.close()
