"""The page of pitfalls: 26 of them, each with tests that exist; those that no other test shows are shown here."""

import re
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis
from sqlalchemy import insert, text
from sqlmodel import select

from tests.conftest import ROOT, MakeRunner
from tests.support.pages import named_tests
from tests.support.shop_models import Tally
from worker import REGISTRY, JobContext, Registry, job, open_client
from worker.core.outcomes import Succeeded
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database, open_database
from worker.main import load_declared, run_worker

PAGE = (ROOT / "docs" / "pitfalls.md").read_text()
PITFALLS = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
NAMED = named_tests(PAGE)
SHOWN = Registry()
SESSIONS: list[object] = []


@job(registry=SHOWN)
async def keep_session(ctx: JobContext) -> None:
    """Keep the session that it was given, so that no later one can have its place in memory."""
    SESSIONS.append(ctx.session)


@job(registry=SHOWN)
async def read_late(ctx: JobContext) -> list[int]:
    """Read rows after the chunk that they belong to was committed."""
    kept: list[Tally] = []
    async for chunk in ctx.chunks(select(Tally), key=Tally.id):
        kept += chunk.rows
    return [tally.value for tally in kept]


def test_there_are_26() -> None:
    """None is missing, and they are numbered."""
    assert [int(pitfall.split(".")[0]) for pitfall in PITFALLS] == list(range(1, 27))


@pytest.mark.parametrize("pitfall", PITFALLS, ids=lambda pitfall: pitfall.split(".")[0])
def test_each_has_an_answer(pitfall: str) -> None:
    """Each names a test, or says that there is none."""
    assert re.search(r"^(Shown by `test_\w+`|Not avoided yet)", pitfall, re.MULTILINE)


@pytest.mark.parametrize(("test", "path"), NAMED)
def test_each_named_test_exists(test: str, path: str) -> None:
    """A test that the page names is where the page says."""
    assert re.search(rf"^(async )?def {test}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_every_name_was_understood() -> None:
    """No test is named in a way that the test above would not see."""
    assert len(NAMED) == len(re.findall(r"`test_\w+`", PAGE))


async def run(make_runner: MakeRunner, job_name: str, run_id: str) -> Succeeded:
    """Run one of this module's jobs to its end."""
    runner = make_runner()
    object.__setattr__(runner, "registry", SHOWN)
    outcome = await runner.run(Delivery(run_id, job_name, {}, {}, "arq:queue", 1))
    assert isinstance(outcome, Succeeded), outcome
    return outcome


async def test_each_run_has_a_session_of_its_own(make_runner: MakeRunner) -> None:
    """Two runs of one job get two sessions."""
    SESSIONS.clear()
    await run(make_runner, "keep_session", "one")
    await run(make_runner, "keep_session", "two")
    one, two = SESSIONS
    assert one is not two


async def test_rows_stay_readable_after_a_commit(make_runner: MakeRunner, database: Database) -> None:
    """What a chunk loaded is not loaded again, lazily, once the chunk was committed."""
    async with database.engine.begin() as connection:
        await connection.execute(insert(Tally), [{"id": id_, "value": id_} for id_ in (1, 2)])
    assert (await run(make_runner, "read_late", "late")).result == [1, 2]


async def test_the_pool_is_enough_for_every_run(settings: Settings) -> None:
    """All runs of a worker have two connections each at the same time, and some are left."""
    database = open_database(settings.model_copy(update={"concurrency": 3}), "test")
    async with AsyncExitStack() as stack:
        for _ in range(2 * 3 + 1):
            connection = await stack.enter_async_context(database.engine.connect())
            await connection.execute(text("SELECT 1"))
    await database.dispose()


async def test_what_redis_lost_is_delivered_again(settings: Settings, redis_url: str) -> None:
    """A run that Redis has forgotten is enqueued again under its id: it runs, once."""
    load_declared(settings)
    async with open_client(settings, REGISTRY) as client:
        await client.enqueue("scripted", {"value": 1}, run_id="from-order-1")
        async with Redis.from_url(redis_url) as redis:
            await redis.flushall()
        await client.enqueue("scripted", {"value": 1}, run_id="from-order-1")
        await client.enqueue("scripted", {"value": 1}, run_id="from-order-1")
        await run_worker(settings, burst=True)
        record = await client.get("from-order-1")
        assert (record.status, record.attempts) == ("succeeded", 1)
        assert (await client.runs()).total == 1
