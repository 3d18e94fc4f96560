"""A connection that the network has reset between two statements, on both event loops that workers run on."""

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Self

import pytest
import uvloop
from pydantic import SecretStr
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from tests.support.mariadb import MariaDbProcess
from worker.core.errors import ErrorKind
from worker.core.settings import Settings
from worker.database.classify import classify
from worker.database.engine import open_database

LINGER = struct.pack("ii", 1, 0)
"""Closed with it, a socket says reset."""

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


class ResettingProxy:
    """Passes everything on, until it is told to reset its clients. Use it as an async context manager."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._clients: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        """Its own."""
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    def reset(self) -> None:
        """End every client's connection, not in good order."""
        clients, self._clients = self._clients, []
        for client in clients:
            client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
            client.transport.abort()

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._clients.append(to_client)
        server, to_server = await asyncio.open_connection("127.0.0.1", self._upstream)
        try:
            # a server's own task must not end cancelled
            with suppress(ConnectionError, asyncio.CancelledError):
                await asyncio.gather(self._pass(client, to_server), self._pass(server, to_client))
        finally:
            to_client.close()
            to_server.close()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            sink.write(data)


async def lose_it(url: str, port: int, *, rolls_back: bool) -> ErrorKind:
    """What a transaction ends with that is reset after its first statement."""
    async with asyncio.timeout(20), ResettingProxy(port) as proxy:
        through = make_url(url).set(port=proxy.port).render_as_string(hide_password=False)
        database = open_database(Settings(database_url=SecretStr(through)), "reset")
        async with database.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            proxy.reset()
            await asyncio.sleep(0.1)
            with pytest.raises(DBAPIError) as caught:
                await (connection.rollback() if rolls_back else connection.execute(text("SELECT 1")))
        assert caught.value.connection_invalidated
        # the pool has another one
        async with database.engine.connect() as connection:
            assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
        proxy.reset()
        await asyncio.sleep(0.1)
        await database.dispose()
        return classify(caught.value, database.dialect.errors)


@pytest.mark.parametrize("make_loop", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("rolls_back", [False, True], ids=["statement", "rollback"])
def test_a_reset_connection_is_a_lost_one(
    own_mariadb: MariaDbProcess, make_loop: Callable[[], asyncio.AbstractEventLoop], *, rolls_back: bool
) -> None:
    """Whatever is asked next, the error says that the connection is lost, and goodbyes raise nothing."""
    with asyncio.Runner(loop_factory=make_loop) as runner:
        assert runner.run(lose_it(own_mariadb.url, own_mariadb.port, rolls_back=rolls_back)) is ErrorKind.CONNECTION
