"""The worker's line to Redis: one connection for its steps, one that tells when the queue has changed.

Owns both connections, the script's loading and the wake-up. `CLIENT TRACKING` makes Redis tell the second connection
when the keys that a step has read are changed by anybody else: any client's ZADD wakes the worker, with no set-up on
either side (Redis 6 and later). Where the server or an ACL forbids it, the worker polls. Refuses to try again: after
any error the line is closed, and whoever owns it opens it anew.
"""

import asyncio
import logging
from contextlib import suppress
from hashlib import sha1
from typing import Any, Final

from arq.connections import ArqRedis
from arq.constants import abort_jobs_ss
from hiredis import pack_command
from redis.exceptions import NoScriptError, RedisError, ResponseError

from worker.queue.scripts import STEP
from worker.queue.step import Asked, Reply, Word, arguments, read_reply

STEP_TIMEOUT_S: Final = 10.0
"""How long a step may take, in seconds: far longer than a script, and shorter than a lease."""

LONGEST_SILENCE_S: Final = 3600.0
"""How long the second connection waits for news before it waits again, in seconds."""

INVALIDATIONS: Final = "__redis__:invalidate"

logger = logging.getLogger("worker.queue")
_SHA: Final = sha1(STEP, usedforsecurity=False).hexdigest()

# redis-py's connections are generic in ways that differ between its releases
_Connection = Any


class Link:
    """Both connections, borrowed from a pool.

    Args:
        pool: the worker's.
        queue: the queue's key.
        marker: the key of the mark that a step looks for; empty for none.
        changed: set whenever something that the last step has read was changed.
    """

    def __init__(self, pool: ArqRedis, queue: str, marker: str, changed: asyncio.Event) -> None:
        self._pool = pool
        # an ACL that knows the queue's keys admits no key without a name
        self._keys = (queue, abort_jobs_ss, *([marker] if marker else []))
        self._changed = changed
        self._steps: _Connection = None
        self._listener: _Connection = None
        self._listening: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    @property
    def wakes(self) -> bool:
        """Whether Redis tells of changes; otherwise they are found by looking again."""
        return self._listening is not None and not self._listening.done()

    async def open(self) -> None:
        """Connect, and ask to be told of changes.

        Raises:
            redis.exceptions.RedisError: Redis does not answer.
            OSError: likewise.
        """
        async with asyncio.timeout(STEP_TIMEOUT_S):
            self._steps = await self._pool.connection_pool.get_connection()
            try:
                await self._listen()
            except ResponseError as error:
                logger.warning("Redis does not tell of changes (%s): the queue is polled", error)
                await self._drop_listener()

    async def step(self, asked: Asked) -> Reply:
        """One step; see `scripts.STEP`.

        Raises:
            redis.exceptions.RedisError: it may or may not have happened.
            OSError: likewise; TimeoutError among them.
        """
        async with self._lock, asyncio.timeout(STEP_TIMEOUT_S):
            if self._listening is not None and self._listening.done():
                # the one that hears of changes was lost: it follows the other one's reads, so both begin anew
                await self.close()
            if self._steps is None:
                await self.open()
            words = (len(self._keys), *self._keys, *arguments(asked))
            try:
                reply = await self._call("EVALSHA", _SHA, *words)
            except NoScriptError:
                # Redis was restarted or told to forget its scripts; nothing has happened yet
                reply = await self._call("EVAL", STEP, *words)
        return read_reply(reply)

    async def close(self) -> None:
        """Give the connections up. A reply that is still under way is lost, not misread as another's."""
        steps, self._steps = self._steps, None
        await self._drop_listener()
        if steps is not None:
            await self._release(steps)

    async def forget(self) -> None:
        """Give up all idle connections of the pool as well: some may lead to a server that is no primary any more."""
        await self.close()
        with suppress(RedisError, OSError):
            await self._pool.connection_pool.disconnect(inuse_connections=False)

    async def _call(self, *words: Word) -> Any:  # noqa: ANN401 - redis-py's own
        connection = self._steps
        # in C: redis-py's own packer takes longer over a step's words than all else that the worker does with them
        await connection.send_packed_command(pack_command(words))  # type: ignore[arg-type] # its stub says one word
        return await connection.read_response()

    async def _listen(self) -> None:
        self._listener = await self._pool.connection_pool.get_connection()
        await self._listener.send_command("CLIENT", "ID")
        number = await self._listener.read_response()
        await self._listener.send_command("SUBSCRIBE", INVALIDATIONS)
        await self._listener.read_response()
        await self._call("CLIENT", "TRACKING", "ON", "REDIRECT", number, "NOLOOP")
        self._listening = asyncio.ensure_future(self._hear(self._listener))

    async def _hear(self, listener: _Connection) -> None:
        with suppress(RedisError, OSError):
            while True:
                # nothing may change for days, whatever the connection's own timeout. One that dies unseen leaves the
                # worker polling
                await listener.read_response(timeout=LONGEST_SILENCE_S, disconnect_on_error=False)
                self._changed.set()
        # the next step opens both anew
        self._changed.set()

    async def _drop_listener(self) -> None:
        listening, self._listening = self._listening, None
        listener, self._listener = self._listener, None
        if listening is not None:
            listening.cancel()
            await asyncio.wait({listening})
        if listener is not None:
            await self._release(listener)

    async def _release(self, connection: _Connection) -> None:
        # whatever state it is in (tracking, subscribed, half a reply read), nobody else may get it
        with suppress(RedisError, OSError):
            await connection.disconnect(nowait=True)
        with suppress(KeyError):
            await self._pool.connection_pool.release(connection)
