"""A TCP proxy before a database's server that loses, cuts and delays what passes, as a plan tells it.

Owns the sockets. Refuses to choose: the plan does.
"""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

from sqlalchemy import make_url

from tests.support.fault_plan import Fault, FaultPlan
from tests.support.wire_messages import messages_of

PIECE_BYTES = 65_536


class FaultProxy:
    """Use it as an async context manager; connect to `port` on 127.0.0.1, without TLS.

    Args:
        url: of the server, with any database.
        plan: what goes wrong.

    Attributes:
        port: its own.
        commits: how many COMMITs have come.
    """

    def __init__(self, url: str, plan: FaultPlan) -> None:
        self.messages = messages_of(url)
        self._upstream = make_url(url).port
        self._plan = plan
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

    def url(self, server_url: str) -> str:
        """The URL of a database of the server, by way of the proxy."""
        through = make_url(server_url).set(port=self.port, query=self.messages.query)
        return through.render_as_string(hide_password=False)

    def next_fault(self) -> Fault | None:
        """A COMMIT has come: what happens to it."""
        self.commits += 1
        return self._plan.at_commit(self.commits)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            server, to_server = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            # the server is down: so is the way to it
            to_client.close()
            return
        await _Line(self, self._plan, client, to_client, server, to_server).serve()


class _Line:
    """One client's connection."""

    def __init__(
        self,
        proxy: FaultProxy,
        plan: FaultPlan,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._plan = plan
        self._client = client
        self._to_client = to_client
        self._server = server
        self._to_server = to_server

    async def serve(self) -> None:
        """Pass everything on, until either side ends it or something happens to it."""
        replies = asyncio.ensure_future(self._pass_replies())
        requests = asyncio.ensure_future(self._pass_requests())
        try:
            await asyncio.wait({replies, requests}, return_when=asyncio.FIRST_COMPLETED)
            if requests.done() and not requests.cancelled() and (doubtful := requests.result()) is not None:
                replies.cancel()
                await asyncio.wait({replies})
                await self._fail(*doubtful)
        finally:
            for task in (replies, requests):
                task.cancel()
            self._to_client.close()
            self._to_server.close()

    async def _pass_replies(self) -> None:
        with suppress(ConnectionError):
            while data := await self._server.read(PIECE_BYTES):
                if not await self._pass_on(data, self._to_client):
                    return

    async def _pass_requests(self) -> tuple[Fault, bytes] | None:
        """Until the end; returns the COMMIT that something happens to, if that is the end."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            message = await self._proxy.messages.read(self._client, first=True)
            while await self._pass_on(message, self._to_server):
                message = await self._proxy.messages.read(self._client, first=False)
                if not self._proxy.messages.is_commit(message):
                    continue
                fault = self._proxy.next_fault()
                if fault is Fault.SLOW:
                    await asyncio.sleep(self._plan.late_s())
                elif fault is not None:
                    return fault, message
        return None

    async def _pass_on(self, data: bytes, sink: asyncio.StreamWriter) -> bool:
        """Write a piece, or what of it comes before a cut; returns whether the connection is still whole."""
        if latency_s := self._plan.latency_s():
            await asyncio.sleep(latency_s)
        cut_at = self._plan.cut_at(len(data))
        sink.write(data[:cut_at])
        await sink.drain()
        return cut_at is None

    async def _fail(self, fault: Fault, commit: bytes) -> None:
        """What happens to a COMMIT; the reply to it is dropped."""
        if fault is Fault.NEVER_ARRIVES:
            return
        if fault is Fault.LANDS_LATE:
            self._to_client.close()
            await asyncio.sleep(self._plan.late_s())
        with suppress(ConnectionError):
            self._to_server.write(commit)
            await self._to_server.drain()
            await self._server.read(1)
