"""An asynchronous pool of connections to a `RedisAddress`.

Owns timeouts, keepalive, TLS and what becomes of a lost connection: the next command makes another. A command that may
have reached Redis is never sent again here, since not every script can be run twice. Opens nothing by itself.
"""

import re
import socket
import ssl
from typing import Final

from redis.asyncio import connection as connections
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from worker.core.errors import SettingsError
from worker.queue.redis_address import RedisAddress, Tls
from worker.queue.redis_masters import MasterPool, Options, log_in

SENTINEL_TIMEOUT_S: Final = 2.0
"""For a Sentinel to take a connection, and to answer: another one is asked after that."""

HEALTH_CHECK_S: Final = 30
"""After how many idle seconds a connection is tried with a PING before a command: a PING can be lost without harm."""

# A connection that waits for news sends nothing, so that only this finds out that its other end is gone: after 15 + 3 x
# 5 seconds. Where the names are missing (macOS has another for the first) the system's own times count.
_KEPT_ALIVE: Final[Options] = {
    "socket_keepalive": True,
    "socket_keepalive_options": {
        getattr(socket, name): value
        for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
        if hasattr(socket, name)
    },
}


def make_pool(address: RedisAddress, name: str) -> connections.ConnectionPool:
    """An asynchronous pool; its connections wait for a reconnect, never for a resent command.

    Args:
        address: where.
        name: what Redis's `CLIENT LIST` shows after `heavylift-`.

    Raises:
        SettingsError: a file of certificates cannot be used.
    """
    options = _options(address, name, address.connect_timeout_s, address.read_timeout_s)
    if address.socket_path is None:
        # once more, for a PING alone: commands are retried on the errors that `retry_on_error` lists, and it lists none
        options |= {"retry": Retry(NoBackoff(), 1), "health_check_interval": HEALTH_CHECK_S}
    if address.master is not None:
        asking = _asking(address, name, min(SENTINEL_TIMEOUT_S, address.connect_timeout_s))
        return MasterPool(address.master, address.hosts, asking, options)
    if address.socket_path is None:
        options["redis_connect_func"] = log_in
    return connections.ConnectionPool(connection_class=_kind(address), **options)


def _kind(address: RedisAddress) -> type[connections.AbstractConnection]:
    if address.socket_path is not None:
        return connections.UnixDomainSocketConnection
    return connections.SSLConnection if address.tls else connections.Connection


def _options(address: RedisAddress, name: str, connect_s: float, read_s: float) -> Options:
    found: Options = {
        "db": address.db,
        "username": address.username,
        "password": address.password,
        "client_name": _client_name(name),
        "socket_connect_timeout": connect_s,
        "socket_timeout": read_s,
    }
    if address.socket_path is not None:
        return {**found, "path": address.socket_path}
    if address.master is None:
        found["host"], found["port"] = address.hosts[0]
    return {**found, **_KEPT_ALIVE, **_tls_options(address.tls)}


def _asking(address: RedisAddress, name: str, timeout_s: float) -> Options:
    return {
        "username": address.sentinel_username,
        "password": address.sentinel_password,
        "client_name": _client_name(name),
        "socket_connect_timeout": timeout_s,
        "socket_timeout": timeout_s,
        "ssl": address.tls is not None,
        **_KEPT_ALIVE,
        **_tls_options(address.tls),
    }


def _client_name(name: str) -> str:
    # Redis takes no spaces and no line breaks in one
    return "heavylift-" + re.sub(r"[^!-~]", "-", name)


def _tls_options(tls: Tls | None) -> Options:
    if tls is None:
        return {}
    _check_files(tls)
    return {
        "ssl_ca_certs": tls.ca_certs,
        "ssl_certfile": tls.certfile,
        "ssl_keyfile": tls.keyfile,
        "ssl_cert_reqs": tls.cert_reqs,
        "ssl_check_hostname": tls.check_hostname,
    }


def _check_files(tls: Tls) -> None:
    # redis-py reads them at each connection, where a mistake would look like a server that does not answer
    context = ssl.create_default_context()
    example = "For example REDIS_URL=rediss://localhost:6379/0?ssl_ca_certs=/etc/ssl/redis-ca.pem"
    if tls.ca_certs:
        try:
            context.load_verify_locations(tls.ca_certs)
        except OSError as error:
            raise SettingsError(
                f"REDIS_URL cannot be used: ssl_ca_certs={tls.ca_certs} is no file of certificates: {error}. {example}"
            ) from error
    if tls.certfile:
        try:
            # with a password at hand, since OpenSSL would ask the terminal for one and wait
            context.load_cert_chain(tls.certfile, tls.keyfile, password="")
        except OSError as error:
            raise SettingsError(
                f"REDIS_URL cannot be used: ssl_certfile={tls.certfile} with ssl_keyfile={tls.keyfile} is no "
                f"certificate with its key, without a passphrase: {error}. {example}&ssl_certfile=/etc/ssl/worker.pem"
            ) from error
