"""The governor before a server of the test's own, which can be filled, starved and stopped."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from tests.support.pressure import session, until
from worker.core.clock import SystemClock
from worker.core.events import Event, IndicatorLeftOut
from worker.core.pressure import Go, Indicator, Verdict, Wait
from worker.core.settings import Settings
from worker.database.engine import open_database
from worker.embedded import PostgresProcess
from worker.run.governor import Governor

OPEN = "archive.open"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresProcess]:
    """A server with few connections, and an archive that takes nothing before it is opened."""
    archive = {"archive_mode": "on", "archive_command": f"test -e {OPEN}"}
    options = {"fsync": "off", "max_connections": "30", **archive}
    with PostgresProcess(tmp_path_factory.mktemp("governed") / "server", options=options) as process:
        yield process


@asynccontextmanager
async def governor_on(url: str, events: list[Event] | None = None, **limits: object) -> AsyncIterator[Governor]:
    """A governor with some limits of its own, which follows one run."""
    settings = Settings(database_url=SecretStr(url), **limits)  # type: ignore[arg-type]  # pydantic checks them
    database = open_database(settings, "governor")
    told: list[Event] = [] if events is None else events
    governor = Governor(database, settings, SystemClock(), told.append)
    governor.follow()
    try:
        yield governor
    finally:
        await governor.leave()
        await database.dispose()


async def judged(governor: Governor, kind: type[Verdict]) -> Verdict:
    """The first verdict of a kind."""
    verdict = await governor.verdict(())

    async def is_such() -> bool:
        nonlocal verdict
        verdict = await governor.verdict(())
        return isinstance(verdict, kind)

    await until(is_such)
    return verdict


async def test_nearly_used_up_connections_hold_runs(server: PostgresProcess) -> None:
    """Others' connections beyond the share that is allowed hold every run, until they are closed."""
    async with governor_on(server.url, governor=(Indicator.CONNECTIONS,), max_connections_used=0.5) as governor:
        assert await governor.verdict(()) == Go()
        async with AsyncExitStack() as stack:
            for _ in range(14):
                await stack.enter_async_context(session(server.url))
            verdict = await judged(governor, Wait)
            assert isinstance(verdict, Wait)
            assert verdict.reason.endswith("of 27 connections are in use (limit 50%)")
        await judged(governor, Go)


async def test_an_archive_that_does_not_keep_up_holds_runs(server: PostgresProcess) -> None:
    """Segments that pile up before the archive hold every run, until it has taken them."""
    async with governor_on(server.url, governor=(Indicator.WAL_ARCHIVE,), max_wal_backlog=3) as governor:
        for _ in range(3):
            await finish_segment(server)
        verdict = await judged(governor, Wait)
        assert isinstance(verdict, Wait)
        assert verdict.reason.endswith("WAL segments wait to be archived (limit 3)")
        (server.folder.path / "cluster" / OPEN).touch()
        # the archiver sleeps after some failures: another segment wakes it
        await finish_segment(server)
        await judged(governor, Go)


async def finish_segment(server: PostgresProcess) -> None:
    """Have the server begin another WAL segment."""
    async with session(server.url) as connection:
        await connection.execute("SELECT txid_current()")
        await connection.execute("SELECT pg_switch_wal()")


async def test_what_a_role_may_not_read_is_told_once_and_left_out(server: PostgresProcess) -> None:
    """The other indicators count as before."""
    async with session(server.url) as connection:
        await connection.execute("CREATE ROLE ordinary LOGIN PASSWORD 'x'")
    url = make_url(server.url).set(username="ordinary", password="x").render_as_string(hide_password=False)
    events: list[Event] = []
    async with governor_on(url, events, max_connections_used=0.01) as governor, session(server.url):
        await judged(governor, Wait)
        first = await governor.latest()
        await until(lambda: is_newer(governor, first))
    (told,) = events
    assert isinstance(told, IndicatorLeftOut)
    assert told.indicator == "wal_archive"
    assert "permission denied" in told.error


async def is_newer(governor: Governor, than: object) -> bool:
    """Whether another look was taken since."""
    return await governor.latest() is not than


async def test_a_server_that_answers_no_more_is_under_pressure(server: PostgresProcess) -> None:
    """A reading that fails after having worked holds runs and says what was answered; when it works again they go."""
    async with governor_on(server.url, governor=(Indicator.LOCKS,)) as governor:
        assert await governor.verdict(()) == Go()
        server.stop()
        try:
            verdict = await judged(governor, Wait)
        finally:
            # in this thread: the server ends with the one that started it
            server.start()
        assert isinstance(verdict, Wait)
        assert verdict.reason.startswith("the database could not be read (")
        await judged(governor, Go)


async def test_a_server_that_stands_still_is_under_pressure(server: PostgresProcess) -> None:
    """A look that gets no answer at all is given up after a while, and holds runs as a refused one does."""
    async with governor_on(server.url, governor=(Indicator.LOCKS,)) as governor, session(server.url) as watching:
        assert await governor.verdict(()) == Go()
        ours = "SELECT pid FROM pg_stat_activity WHERE application_name = 'heavylift:governor'"
        backend = await watching.fetchval(ours)
        os.kill(backend, signal.SIGSTOP)
        try:
            assert await judged(governor, Wait) == Wait("the database could not be read (no answer within 5 s)")
        finally:
            os.kill(backend, signal.SIGCONT)
        await judged(governor, Go)


async def test_a_server_that_never_answered_holds_nobody(server: PostgresProcess) -> None:
    """Without a single reading the governor knows of no pressure."""
    nowhere = make_url(server.url).set(database="nowhere").render_as_string(hide_password=False)
    async with governor_on(nowhere) as governor:
        assert await governor.verdict(()) == Go()
