"""Connections to a real Redis: TLS with names checked, times bounded, lost ones made anew, commands sent once."""

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from arq.connections import ArqRedis, create_pool
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.conftest import Servers
from tests.queue.conftest import SettingsFor, threads_client
from tests.support.authority import Authority
from tests.support.redis_proxy import RedisProxy
from worker.core.errors import SettingsError, UnreachableError
from worker.core.settings import Settings
from worker.embedded import RedisProcess
from worker.queue.redis_settings import open_redis, redis_settings

PATIENCE_S = 20
"""Longer than anything here takes, and shorter than a test may."""


@asynccontextmanager
async def connected(settings: Settings, name: str = "test") -> AsyncIterator[ArqRedis]:
    """Our pool."""
    async with aclosing(await open_redis(settings, name)) as pool:
        yield pool


@pytest.fixture
def login(servers: Servers, redis_url: str) -> str:
    """What stands before the host in a URL of this session's empty Redis."""
    assert redis_url
    return f":{servers.redis.folder.password}@"


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections, as far as the kernel does that for it, and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
async def counted(
    servers: Servers, login: str, settings_for: SettingsFor
) -> AsyncIterator[tuple[RedisProxy, Settings]]:
    """A proxy before Redis, and settings that lead through it, with a short wait for an answer."""
    async with RedisProxy(servers.redis.port) as proxy:
        yield proxy, settings_for(f"redis://{login}127.0.0.1:{proxy.port}/0?socket_timeout=0.5")


async def test_the_right_certificate_connects(
    servers: Servers, login: str, authority: Authority, settings_for: SettingsFor
) -> None:
    """A certificate made out to the host, of an authority that the URL names, is good, asynchronously or not."""
    async with RedisProxy(servers.redis.port, authority.serves(["localhost"])) as proxy:
        settings = settings_for(f"rediss://{login}localhost:{proxy.port}/0?ssl_ca_certs={authority.ca_certs}")
        async with connected(settings) as pool:
            await pool.set("seen", "1")
        with threads_client(settings, 5) as client:
            assert await asyncio.to_thread(client.get, "seen") == b"1"


@pytest.mark.parametrize(
    ("made_out_to", "query", "said"),
    [
        ("redis.example.com", "?ssl_ca_certs={ca}", "Hostname mismatch"),
        ("localhost", "", "CERTIFICATE_VERIFY_FAILED"),
    ],
    ids=["another host's", "of an unknown authority"],
)
async def test_a_wrong_certificate_is_refused(
    servers: Servers,
    login: str,
    authority: Authority,
    settings_for: SettingsFor,
    made_out_to: str,
    query: str,
    said: str,
) -> None:
    """Another host's certificate, or one that nobody vouches for, ends in an error that says what to do."""
    async with RedisProxy(servers.redis.port, authority.serves([made_out_to])) as proxy:
        url = f"rediss://{login}localhost:{proxy.port}/0{query.format(ca=authority.ca_certs)}"
        with pytest.raises(UnreachableError, match="Name the host as its certificate does") as caught:
            await open_redis(settings_for(url))
        assert said in str(caught.value)
        assert servers.redis.folder.password not in str(caught.value)
        with threads_client(settings_for(url), 5) as client, pytest.raises(RedisConnectionError, match=said):
            await asyncio.to_thread(client.ping)


async def test_the_name_is_not_checked_where_the_url_says_so(
    servers: Servers, login: str, authority: Authority, settings_for: SettingsFor
) -> None:
    """`ssl_check_hostname=false` admits another host's certificate, and nobody else's authority."""
    async with RedisProxy(servers.redis.port, authority.serves(["redis.example.com"])) as proxy:
        url = f"rediss://{login}localhost:{proxy.port}/0?ssl_check_hostname=false"
        async with connected(settings_for(f"{url}&ssl_ca_certs={authority.ca_certs}")) as pool:
            assert await pool.ping()
        with pytest.raises(UnreachableError):
            await open_redis(settings_for(url))


async def test_a_server_may_ask_for_a_certificate(
    servers: Servers, login: str, authority: Authority, settings_for: SettingsFor
) -> None:
    """A client's certificate is shown, from a file that holds its key as well."""
    async with RedisProxy(servers.redis.port, authority.serves(["localhost"], asks=True)) as proxy:
        url = f"rediss://{login}localhost:{proxy.port}/0?ssl_ca_certs={authority.ca_certs}"
        shown = settings_for(f"{url}&ssl_certfile={authority.certificate('worker.example.com')}")
        async with connected(shown) as pool:
            assert await pool.ping()
        with threads_client(shown, 5) as client:
            assert await asyncio.to_thread(client.ping)
        with pytest.raises(UnreachableError):
            await open_redis(settings_for(url))


@pytest.mark.parametrize("query", ["ssl_ca_certs=/nowhere/ca.pem", "ssl_certfile=/nowhere/worker.pem"])
async def test_a_missing_file_is_named(settings_for: SettingsFor, query: str) -> None:
    """A file of certificates that is not there is a mistake in the setting, not a server that does not answer."""
    with pytest.raises(SettingsError, match=query.replace("=", "=/?")):
        await open_redis(settings_for(f"rediss://localhost/0?{query}"))


async def test_arqs_own_connections_check_the_name(
    servers: Servers, login: str, authority: Authority, settings_for: SettingsFor
) -> None:
    """What arq connects by itself, as `arq --check` does, refuses another host's certificate too."""
    for name, good in (("localhost", True), ("redis.example.com", False)):
        async with RedisProxy(servers.redis.port, authority.serves([name])) as proxy:
            url = f"rediss://{login}localhost:{proxy.port}/0?ssl_ca_certs={authority.ca_certs}"
            wanted = redis_settings(settings_for(url))
            if good:
                await (await create_pool(wanted)).aclose()
                continue
            with pytest.raises(RedisConnectionError, match="Hostname mismatch"):
                await create_pool(wanted)


SILENCE = pytest.mark.parametrize(
    ("scheme", "query"),
    [("redis", "socket_timeout=0.2"), ("rediss", "socket_connect_timeout=0.2&socket_timeout=0.2")],
    ids=["no answer", "no handshake"],
)


@SILENCE
async def test_a_silent_server_is_given_up(
    silent: socket.socket, settings_for: SettingsFor, scheme: str, query: str
) -> None:
    """A server that accepts and never says anything ends in an error, not in waiting for ever."""
    settings = settings_for(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/0?{query}")
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(UnreachableError, match="Timeout"):
            await open_redis(settings)


@SILENCE
@pytest.mark.timeout(PATIENCE_S)
def test_a_thread_gives_up_a_silent_server(
    silent: socket.socket, settings_for: SettingsFor, scheme: str, query: str
) -> None:
    """Likewise for the synchronous client."""
    settings = settings_for(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/0?{query}")
    with threads_client(settings, 60) as client, pytest.raises(RedisTimeoutError):
        client.ping()


@pytest.mark.timeout(PATIENCE_S)
def test_the_caller_bounds_the_threads_client(silent: socket.socket, settings_for: SettingsFor) -> None:
    """A thread that has little time says so, and the URL's longer times do not count."""
    settings = settings_for(f"redis://127.0.0.1:{silent.getsockname()[1]}/0?socket_timeout=60")
    with threads_client(settings, 0.2) as client, pytest.raises(RedisTimeoutError):
        client.ping()


async def test_times_are_bounded_by_default(redis_url: str, settings_for: SettingsFor) -> None:
    """Without a word in the URL a connection has five seconds to stand and ten for an answer, and is kept alive."""
    async with connected(settings_for(redis_url)) as pool:
        connection = await pool.connection_pool.get_connection()
        try:
            assert (connection.socket_connect_timeout, connection.socket_timeout) == (5, 10)
            sock: socket.socket = connection._writer.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            if hasattr(socket, "TCP_KEEPIDLE"):
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
        finally:
            await pool.connection_pool.release(connection)


async def test_connections_have_a_name(redis_url: str, settings_for: SettingsFor) -> None:
    """`CLIENT LIST` shows whose a connection is, with what Redis does not admit replaced."""
    settings = settings_for(redis_url)
    async with connected(settings, "host one:1") as pool:
        with threads_client(settings, 5, "host one:1/leases") as client:
            client.ping()
            names = {each["name"] for each in await pool.client_list()}
    assert names >= {"heavylift-host-one:1", "heavylift-host-one:1/leases"}


async def test_user_and_database_are_the_urls(servers: Servers, redis_url: str, settings_for: SettingsFor) -> None:
    """A connection is the named user's, in the named database, whether that is in the path or a parameter."""
    async with Redis.from_url(redis_url) as admin:
        await admin.execute_command("ACL", "SETUSER", "hall", "on", ">p@ss/word", "~*", "+@all")
        try:
            for where in ("/3", "?db=3"):
                url = f"redis://hall:p%40ss%2Fword@127.0.0.1:{servers.redis.port}{where}"
                async with connected(settings_for(url)) as pool:
                    (own,) = [each for each in await admin.client_list() if each["name"] == "heavylift-test"]
                    assert (own["user"], own["db"]) == ("hall", "3")
                    assert await pool.acl_whoami() == "hall"
        finally:
            await admin.execute_command("ACL", "DELUSER", "hall")


async def test_a_unix_socket(settings_for: SettingsFor) -> None:
    """Redis is reached by its socket, asynchronously or not."""
    # a socket's path must be short, which `tmp_path` is not everywhere
    with tempfile.TemporaryDirectory(prefix="hl") as folder:
        path = Path(folder, "redis.sock")
        with RedisProcess(Path(folder, "server"), options={"unixsocket": str(path), "unixsocketperm": "700"}) as server:
            settings = settings_for(f"unix://:{server.folder.password}@{path}?db=1")
            async with connected(settings) as pool:
                await pool.set("seen", "1")
            with threads_client(settings, 5) as client:
                assert client.get("seen") == b"1"


async def test_a_command_whose_reply_was_lost_is_not_sent_again(counted: tuple[RedisProxy, Settings]) -> None:
    """It may have been carried out: it fails, once carried out, and the next command has a new connection."""
    proxy, settings = counted
    async with connected(settings) as pool:
        proxy.lost = b"INCR"
        with pytest.raises(RedisConnectionError):
            await pool.incr("sent")
        assert await pool.get("sent") == b"1"


async def test_a_thread_sends_a_command_once(counted: tuple[RedisProxy, Settings]) -> None:
    """Likewise for the synchronous client."""
    proxy, settings = counted
    with threads_client(settings, 5) as client:
        await asyncio.to_thread(client.ping)
        proxy.lost = b"INCR"
        with pytest.raises(RedisConnectionError):
            await asyncio.to_thread(client.incr, "sent")
        assert await asyncio.to_thread(client.get, "sent") == b"1"


async def test_a_connection_that_redis_closed_is_replaced(redis_url: str, settings_for: SettingsFor) -> None:
    """A command after a restart, or after an idle connection was closed, succeeds without an error in between."""
    settings = settings_for(redis_url)
    async with connected(settings) as pool, Redis.from_url(redis_url) as admin:
        with threads_client(settings, 5) as client:
            client.ping()
            await admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            assert await pool.incr("sent") == 1
            assert client.incr("sent") == 2


async def test_an_idle_connection_that_died_silently_is_replaced(counted: tuple[RedisProxy, Settings]) -> None:
    """After half a minute a PING goes first, which can be lost without harm: the command is sent once, on a new one."""
    proxy, settings = counted
    async with connected(settings) as pool:
        proxy.mute()
        for connection in pool.connection_pool._available_connections:
            connection.next_health_check = 0  # as if half a minute had passed
        assert await pool.incr("sent") == 1


async def test_what_cannot_be_reached_is_named(settings_for: SettingsFor) -> None:
    """The message says which place was tried, and shows no password."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(UnreachableError, match=f"Redis at 127.0.0.1:{port} did not answer") as caught:
        await open_redis(settings_for(f"redis://:secret@127.0.0.1:{port}/0"))
    assert "secret" not in str(caught.value)


async def test_a_pool_that_was_cancelled_holds_nothing_open(silent: socket.socket, settings_for: SettingsFor) -> None:
    """Cancelled while it waits for the first answer, it closes its connection."""
    loop = asyncio.get_running_loop()
    silent.setblocking(False)
    async with asyncio.timeout(PATIENCE_S):
        opening = asyncio.ensure_future(open_redis(settings_for(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")))
        client, _ = await loop.sock_accept(silent)
        with client:
            client.setblocking(False)
            assert await loop.sock_recv(client, 65536)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            assert await loop.sock_recv(client, 65536) == b""
