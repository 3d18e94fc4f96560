"""Connections to whichever server is the master by now, as Sentinels have it.

Owns that a new connection is the master's, and that what asked the Sentinels is closed with the pool. redis-py asks
them at each connection, and drops a connection whose server says that it is read-only.
"""

from collections.abc import Sequence
from math import inf
from typing import Any

from redis.asyncio import sentinel
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError

Options = dict[str, Any]
"""Keyword arguments of redis-py's connections, which have no type."""

Hosts = Sequence[tuple[str, int]]

_MASTER = "master"


class MasterPool(sentinel.SentinelConnectionPool):
    """An asynchronous pool of connections to the master.

    Args:
        master: what the Sentinels call it.
        hosts: names and ports of the Sentinels.
        asking: options of the connections to the Sentinels, `ssl` among them.
        options: those of the connections to the master.
    """

    def __init__(self, master: str, hosts: Hosts, asking: Options, options: Options) -> None:
        kind = sentinel.SentinelManagedSSLConnection if asking["ssl"] else sentinel.SentinelManagedConnection
        manager = sentinel.Sentinel(hosts, sentinel_kwargs=asking)
        super().__init__(  # type: ignore[no-untyped-call]
            master, manager, connection_class=kind, redis_connect_func=_log_in_to_master, **options
        )

    async def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's own
        """Close the idle connections; with those in use, the Sentinels' as well, which redis-py leaves open."""
        try:
            await super().disconnect(inuse_connections)
        finally:
            if inuse_connections:
                for each in self.sentinel_manager.sentinels:
                    await each.aclose()


async def log_in(connection: AbstractConnection) -> None:
    """What a new connection does first, without redis-py's PING between: it would come before the log-in is done.

    Where that PING goes unanswered, redis-py connects anew and logs in, with a PING between, and so on without an end.
    """
    # the log-in's answers set it to a moment from now
    connection.next_health_check = inf
    await connection.on_connect()


async def _log_in_to_master(connection: AbstractConnection) -> None:
    await log_in(connection)
    await connection.send_command("ROLE")
    check_role(connection, await connection.read_response())


def check_role(connection: object, answer: list[object]) -> None:
    """Let a connection be only to a master.

    Args:
        connection: a new one.
        answer: to the command `ROLE`.

    Raises:
        RedisConnectionError: it is to a replica.
    """
    role = answer[0].decode() if isinstance(answer[0], bytes) else answer[0]
    if role != _MASTER:
        # the Sentinel that named it has yet to hear of a failover; a script would fail there, in Redis 6 with an error
        # in which redis-py does not find that the server is read-only
        raise RedisConnectionError(f"{connection!r} is a {role}, and no longer the master")
