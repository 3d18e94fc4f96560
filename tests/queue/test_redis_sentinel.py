"""Real Sentinels: clients find the master, find the next one after a failover, and are not left with a replica."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest
from arq.connections import ArqRedis, create_pool
from redis import Redis
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from tests.queue.conftest import SettingsFor, threads_client
from tests.support.authority import Authority
from tests.support.redis_proxy import RedisProxy
from tests.support.sentinel import MASTER, PASSWORD, SentinelProcess, follow, redis_with
from worker.core.errors import SettingsError, UnreachableError
from worker.core.settings import Settings
from worker.embedded import RedisProcess
from worker.embedded.locks import poll_until
from worker.queue.redis_settings import open_redis, redis_settings

PATIENCE_S = 60
"""For a failover: a Sentinel looks at its servers once in a second."""


@dataclass(frozen=True, slots=True)
class Group:
    """A master, its replica and their Sentinel."""

    master: RedisProcess
    replica: RedisProcess
    sentinel: SentinelProcess

    @property
    def url(self) -> str:
        """REDIS_URL of the group; a Sentinel that is not there comes first."""
        sentinels = f"127.0.0.1:1,127.0.0.1:{self.sentinel.port}"
        return f"redis+sentinel://:{PASSWORD}@{sentinels}/{MASTER}/1?sentinel_password={self.sentinel.folder.password}"

    def promote(self) -> None:
        """Have the Sentinel make the replica the master, while the old one lives, and wait until it says so."""
        with Redis.from_url(self.sentinel.url) as asked:

            def begun() -> bool:
                with contextlib.suppress(RedisError):  # until it has seen that the replica is good
                    return bool(asked.sentinel_failover(MASTER))
                return False

            assert poll_until(begun, PATIENCE_S)
            assert poll_until(lambda: asked.sentinel_master(MASTER)["port"] == self.replica.port, PATIENCE_S)


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    """A master whose replica is up to date, and a Sentinel that has seen both."""
    with ExitStack() as stack:
        master, replica = (stack.enter_context(redis_with(tmp_path / name)) for name in ("master", "replica"))
        follow(replica, master)
        watching = SentinelProcess(tmp_path / "sentinel", master.port, down_after_ms=300)
        stack.enter_context(watching)
        with Redis.from_url(watching.url) as asked:
            assert poll_until(lambda: int(asked.sentinel_master(MASTER)["num-slaves"]) == 1, PATIENCE_S)
        yield Group(master, replica, watching)


async def written(pool: ArqRedis, key: str) -> None:
    """Write a key, however often that must be tried while a new master is made."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(RedisError):
                await pool.set(key, "1")
                return
            await asyncio.sleep(0.05)


def has(server: RedisProcess, key: str) -> bool:
    """Whether a server has a key in database 1."""
    with Redis.from_url(server.url.removesuffix("/0"), db=1) as client:
        return bool(client.exists(key))


async def test_a_dead_masters_successor_is_found(group: Group, settings_for: SettingsFor) -> None:
    """Pool and thread's client, both connected to a master that is killed, write to the replica that takes over."""
    settings = settings_for(group.url)
    with threads_client(settings, 1) as client:
        async with aclosing(await open_redis(settings)) as pool:
            await pool.set("before", "1")
            client.set("before, from a thread", "1")
            assert has(group.master, "before")
            assert has(group.master, "before, from a thread")
            group.master.kill()
            await written(pool, "after")
            client.set("after, from a thread", "1")
            assert has(group.replica, "after")
            assert has(group.replica, "after, from a thread")


async def test_a_demoted_master_is_left(group: Group, settings_for: SettingsFor) -> None:
    """A master that lives on as a replica refuses what is written: it is written to the new one."""
    settings = settings_for(group.url)
    with threads_client(settings, 1) as client:
        async with aclosing(await open_redis(settings)) as pool:
            await pool.set("before", "1")
            client.set("before, from a thread", "1")
            group.promote()
            # what the Sentinel does too, ten seconds later, when it also ends the clients' connections
            follow(group.master, group.replica)
            await written(pool, "after")
            with contextlib.suppress(RedisConnectionError):
                client.set("after, from a thread", "1")
            client.set("after, from a thread", "1")
            assert has(group.replica, "after")
            assert has(group.replica, "after, from a thread")


async def test_a_replica_is_not_taken_for_the_master(tmp_path: Path, group: Group, settings_for: SettingsFor) -> None:
    """Where a Sentinel names a replica, as one does that has slept through a failover, nobody logs in there."""
    with SentinelProcess(tmp_path / "late", group.replica.port) as late:
        sentinel = f"127.0.0.1:{late.port}/{MASTER}?sentinel_password={late.folder.password}"
        settings = settings_for(f"redis+sentinel://:{PASSWORD}@{sentinel}")
        with pytest.raises(UnreachableError, match="is a slave, and no longer the master"):
            await open_redis(settings)
        with threads_client(settings, 5) as client, pytest.raises(RedisConnectionError, match="no longer the master"):
            client.ping()


@pytest.fixture
async def secure(tmp_path: Path, authority: Authority) -> AsyncIterator[tuple[SentinelProcess, RedisProxy]]:
    """A Sentinel and its master, either behind TLS; the Sentinel itself comes to the master in plain."""
    served = authority.serves(["localhost", "127.0.0.1"])
    with redis_with(tmp_path / "master") as master:
        async with RedisProxy(master.port, served) as before_master:
            with SentinelProcess(tmp_path / "sentinel", before_master.port) as sentinel:
                async with RedisProxy(sentinel.port, served) as before_sentinel:
                    yield sentinel, before_sentinel


async def test_sentinels_behind_tls(
    secure: tuple[SentinelProcess, RedisProxy], authority: Authority, settings_for: SettingsFor
) -> None:
    """`rediss+sentinel://` asks the Sentinels, and talks to the master, over TLS; certificates of both are checked."""
    sentinel, proxy = secure
    where = f"localhost:{proxy.port}/{MASTER}?sentinel_password={sentinel.folder.password}"
    url = f"rediss+sentinel://:{PASSWORD}@{where}"
    trusting = settings_for(f"{url}&ssl_ca_certs={authority.ca_certs}")
    async with aclosing(await open_redis(trusting)) as pool:
        await pool.set("seen", "1")
    with threads_client(trusting, 5) as client:
        assert await asyncio.to_thread(client.get, "seen") == b"1"
    with pytest.raises(UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
        await open_redis(settings_for(url))


@pytest.fixture
def silent(settings_for: SettingsFor) -> Iterator[Settings]:
    """Settings that name a Sentinel which takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = f"127.0.0.1:{server.getsockname()[1]}/{MASTER}"
        yield settings_for(f"redis+sentinel://{where}?socket_connect_timeout=0.2")


async def test_silent_sentinels_are_given_up(silent: Settings) -> None:
    """No Sentinel that answers is an error that says so, not waiting for ever."""
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(UnreachableError, match=rf"\(Sentinels of '{MASTER}'\) did not answer.*No master found"):
            await open_redis(silent)


@pytest.mark.timeout(PATIENCE_S)
def test_a_thread_gives_up_silent_sentinels(silent: Settings) -> None:
    """Likewise for the synchronous client."""
    with threads_client(silent, 60) as client, pytest.raises(RedisConnectionError, match="No master found"):
        client.ping()


async def test_arq_itself_finds_the_master(tmp_path: Path, settings_for: SettingsFor) -> None:
    """What arq connects by itself goes to the master, in the URL's database."""
    with (
        redis_with(tmp_path / "master") as master,
        SentinelProcess(tmp_path / "open", master.port, closed=False) as sentinel,
    ):
        settings = settings_for(f"redis+sentinel://:{PASSWORD}@127.0.0.1:{sentinel.port}/{MASTER}/1")
        async with aclosing(await create_pool(redis_settings(settings))) as pool:
            await pool.set("seen", "1")
        assert has(master, "seen")
        assert isinstance(pool.connection_pool, SentinelConnectionPool)
        for each in pool.connection_pool.sentinel_manager.sentinels:
            await each.aclose()  # arq leaves them open


@pytest.mark.parametrize("url", ["rediss+sentinel://one/hall", "redis+sentinel://one/hall?sentinel_password=s"])
def test_arq_itself_is_refused_where_it_would_be_less_safe(url: str, settings_for: SettingsFor) -> None:
    """By arq Sentinels would be asked in plain and without a password; it is not told to."""
    with pytest.raises(SettingsError, match="arq itself cannot connect"):
        redis_settings(settings_for(url))
