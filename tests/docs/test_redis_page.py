"""The page on Redis: its URLs are understood, its settings Redis's own, and its user can do what is needed, no more."""

import re
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from arq.connections import ArqRedis, log_redis_info
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoPermissionError

from tests.conftest import ROOT, Servers
from tests.support.pages import Page
from tests.support.stores import open_stores
from worker import REGISTRY, open_client
from worker.core.clock import SystemClock
from worker.core.settings import Settings
from worker.database.engine import Database
from worker.main import load_declared, run_worker
from worker.queue.redis_address import CONNECT_TIMEOUT_S, READ_TIMEOUT_S
from worker.queue.redis_connections import HEALTH_CHECK_S, SENTINEL_TIMEOUT_S
from worker.queue.redis_settings import open_redis
from worker.queue.redis_url import PARAMETERS, parse_redis_url
from worker.queue.restore import Restorer

PAGE = Page((ROOT / "docs" / "redis.md").read_text())
URLS = re.findall(r"^\| [^|]* \| `(\w[\w+]*://[^`]*)` \|$", PAGE.text, re.MULTILINE)
BLOCKS = {block.language: block.code for block in PAGE.blocks}
DIRECTIVES = [line.split() for line in BLOCKS["conf"].splitlines() if not line.startswith("#")]
USER = "worker"
PASSWORD = "secret"


@pytest.fixture
async def admin(redis_url: str) -> AsyncIterator[Redis]:
    """Somebody who may do everything, and the page's user beside."""
    _, name, *rules = BLOCKS["acl"].split()
    assert (name, f">{PASSWORD}" in rules) == (USER, True)
    async with Redis.from_url(redis_url) as redis:
        await redis.execute_command("ACL", "SETUSER", USER, "reset", *rules)
        yield redis
        await redis.execute_command("ACL", "DELUSER", USER)


@pytest.fixture
def limited(settings: Settings, servers: Servers, admin: Redis) -> Settings:  # noqa: ARG001 - it makes the user
    """The settings of the page's user."""
    url = f"redis://{USER}:{PASSWORD}@127.0.0.1:{servers.redis.port}/0"
    return settings.model_copy(update={"redis_url": SecretStr(url)})


@pytest.mark.parametrize("url", URLS)
def test_each_url_is_understood(url: str) -> None:
    """No example of the page is refused, and each leads somewhere."""
    assert parse_redis_url(url).place


def test_every_parameter_is_on_the_page() -> None:
    """Whatever may follow the question mark is named somewhere."""
    assert not [name for name in PARAMETERS if f"`{name}`" not in PAGE.text and f"?{name}=" not in PAGE.text]


def test_the_times_are_the_codes() -> None:
    """The page's times are those that are kept."""
    assert f"| a connection, TLS included | {CONNECT_TIMEOUT_S:g} s," in PAGE.text
    assert f"| one answer | {READ_TIMEOUT_S:g} s," in PAGE.text
    assert f"| a Sentinel | {SENTINEL_TIMEOUT_S:g} s," in PAGE.text
    assert f"| an idle connection | a PING after {HEALTH_CHECK_S} s," in PAGE.text


@pytest.mark.parametrize(("name", "value"), DIRECTIVES)
async def test_each_directive_is_redis_own(admin: Redis, name: str, value: str) -> None:
    """Redis knows each setting that the page advises, and takes its value."""
    before = (await admin.config_get(name))[name]
    await admin.config_set(name, value)
    assert (await admin.config_get(name))[name] == value
    await admin.config_set(name, before)


async def test_the_user_can_fill_redis_again(limited: Settings, database: Database) -> None:
    """A worker that logs in as the page's user may do all that a sweep does."""
    async with open_stores(limited, database) as stores:
        await stores.write("lost")
        await stores.redis.set("arq:result:lost", b"of an earlier ending")
        await stores.redis.enqueue_job("scripted", _job_id="would expire")
        restored = await Restorer(stores.redis, database, limited, SystemClock()).run_if_needed()
    assert restored is not None
    assert (restored.delivered, restored.kept, restored.complete) == (1, 1, True)


async def test_the_user_can_enqueue_and_work(limited: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """A client and a worker that log in as the page's user run a job to its end; a plain arq client gets its result."""
    load_declared(limited)
    async with open_client(limited, REGISTRY) as client:
        assert client.redis is not None
        await client.enqueue("scripted", {"value": 1}, run_id="ours")
        plain = ArqRedis(connection_pool=client.redis.connection_pool)
        theirs = await plain.enqueue_job("scripted", value=2)
        assert theirs is not None
        # what arq's own worker begins with
        await log_redis_info(client.redis, print)
        await run_worker(limited, burst=True)
        assert (await client.get("ours")).status == "succeeded"
        assert (await theirs.result_info()) is not None
    # nothing was forbidden and done without
    assert not [line.message for line in caplog.records if line.name == "worker.queue"]


async def test_the_user_can_run_scripts_and_be_woken(limited: Settings) -> None:
    """Scripts over the queue's keys, and notice of a key that changes: what a queue loop is built of."""
    async with aclosing(await open_redis(limited)) as pool:
        listening, tracking = [await pool.connection_pool.get_connection() for _ in range(2)]
        try:
            identity = await ask(listening, "CLIENT", "ID")
            await ask(listening, "SUBSCRIBE", "__redis__:invalidate")
            await ask(tracking, "CLIENT", "TRACKING", "ON", "REDIRECT", identity, "BCAST", "PREFIX", "arq:queue")
            script = pool.register_script("return redis.call('zadd', KEYS[1], 1, 'run')")
            assert await script(keys=["arq:queue"]) == 1
            assert await listening.read_response() == [b"message", b"__redis__:invalidate", [b"arq:queue"]]
        finally:
            for connection in (listening, tracking):
                await connection.disconnect()
                await pool.connection_pool.release(connection)


async def ask(connection: AbstractConnection, *words: object) -> object:
    """One command on one connection."""
    await connection.send_command(*words)
    return await connection.read_response()


@pytest.mark.parametrize(
    "command", [("FLUSHALL",), ("KEYS", "*"), ("GET", "others"), ("CONFIG", "GET", "*"), ("ACL", "LIST")]
)
async def test_the_user_can_do_no_more(limited: Settings, command: tuple[str, ...]) -> None:
    """What is not the queue's is closed to it."""
    async with aclosing(await open_redis(limited)) as pool:
        with pytest.raises(NoPermissionError):
            await Redis(connection_pool=pool.connection_pool).execute_command(*command)
