"""A synchronous client of the server that an asynchronous pool leads to: for a thread of its own.

Owns which of a pool's options a thread's connection has: where, who, TLS, and the caller's times. Sentinels are asked
by connections of the thread's own too. A command is tried once, and a lost connection made anew by the next one.
"""

from collections.abc import Mapping
from math import inf
from typing import Any, Final

import redis
from redis import asyncio
from redis import sentinel as sync_sentinel
from redis.asyncio import connection as connections
from redis.asyncio.sentinel import SentinelConnectionPool

from worker.queue.redis_masters import Options, check_role

_TIMES: Final = ("socket_timeout", "socket_connect_timeout")
_SHARED: Final = frozenset(
    {
        "host",
        "port",
        "path",
        "db",
        "username",
        "password",
        "client_name",
        "socket_keepalive",
        "socket_keepalive_options",
    }
)
"""What both kinds of connection are told alike, beside what begins with `ssl_`."""

_KINDS: Final = (
    (connections.UnixDomainSocketConnection, redis.UnixDomainSocketConnection),
    (connections.SSLConnection, redis.SSLConnection),
    (connections.Connection, redis.Connection),
)


def synchronous(pool: asyncio.Redis, timeout_s: float) -> redis.Redis:
    """A blocking client of the server that a pool leads to; nothing is opened before its first command.

    Args:
        pool: any; it stays as it is.
        timeout_s: for a connection to stand, and for each answer, in seconds, unless the pool's own times are shorter.
    """
    known = pool.connection_pool
    options = _options(known.connection_kwargs, timeout_s)
    if isinstance(known, SentinelConnectionPool):
        asked = [synchronous(each, timeout_s) for each in known.sentinel_manager.sentinels]
        secure = issubclass(known.connection_class, connections.SSLConnection)
        return redis.Redis.from_pool(_MasterPool(known.service_name, asked, options, secure=secure))
    kind = next(ours for theirs, ours in _KINDS if issubclass(known.connection_class, theirs))
    return redis.Redis.from_pool(redis.ConnectionPool(connection_class=kind, **options))


def _options(told: Mapping[str, Any], timeout_s: float) -> Options:
    shared = {name: value for name, value in told.items() if name in _SHARED or name.startswith("ssl_")}
    return {**shared, **{name: min(timeout_s, told.get(name) or inf) for name in _TIMES}}


class _MasterPool(sync_sentinel.SentinelConnectionPool):
    """`MasterPool` for one thread."""

    def __init__(self, master: str, asked: list[redis.Redis], options: Options, *, secure: bool) -> None:
        manager = sync_sentinel.Sentinel(())
        manager.sentinels = asked
        kind = sync_sentinel.SentinelManagedSSLConnection if secure else sync_sentinel.SentinelManagedConnection
        super().__init__(  # type: ignore[no-untyped-call]
            master, manager, connection_class=kind, redis_connect_func=_log_in, **options
        )

    def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's own
        try:
            super().disconnect(inuse_connections)
        finally:
            if inuse_connections:
                for each in self.sentinel_manager.sentinels:
                    each.close()


def _log_in(connection: redis.Connection) -> None:
    connection.on_connect()
    connection.send_command("ROLE")
    check_role(connection, connection.read_response())
