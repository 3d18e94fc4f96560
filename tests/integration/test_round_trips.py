"""What a run costs beside its own statements, in round trips to the server."""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.engine import make_url

from tests.conftest import MakeRunner, Servers
from tests.support.counting_proxy import CountingProxy
from worker.core.outcomes import Failed, Succeeded
from worker.core.settings import Settings
from worker.database import pool
from worker.database.claims import Claimed, Delivery
from worker.run.runner import Runner

CLAIM = 3
"""BEGIN, the claim, COMMIT: for one run or for many."""

PING = 3
"""What asking a pooled connection whether it lives costs: BEGIN, a statement, ROLLBACK."""


@pytest.fixture
async def proxy(servers: Servers) -> AsyncIterator[CountingProxy]:
    """Counts what goes to the server."""
    async with CountingProxy(servers.postgres.port) as counting:
        yield counting


@pytest.fixture
def settings(settings: Settings, proxy: CountingProxy) -> Settings:
    """A worker's settings with the database behind the proxy; chunks of ten rows."""
    assert settings.database_url is not None
    url = make_url(settings.database_url.get_secret_value()).set(port=proxy.port, query={"ssl": "disable"})
    small = {"chunk_start_rows": 10, "chunk_min_rows": 10, "chunk_max_rows": 10}
    return settings.model_copy(
        update={**small, "database_url": SecretStr(url.render_as_string(hide_password=False)), "governor": ()}
    )


@pytest.fixture
async def runner(make_runner: MakeRunner) -> Runner:
    """A runner whose one connection has prepared what jobs of one insert, and of chunks, send."""
    made = make_runner()
    await insert(made, 1)
    await add_one(made, "warm")
    return made


def one_insert(number: int) -> Delivery:
    """A delivery of a job that inserts one row and returns."""
    return Delivery(f"r{number}", "scripted", {"ending": "return", "value": number}, {}, "arq:queue", 1)


async def insert(runner: Runner, number: int) -> None:
    """Run a job that inserts one row."""
    assert await runner.run(one_insert(number)) == Succeeded(number)


async def add_one(runner: Runner, run_id: str) -> None:
    """Run a job that walks all tallies."""
    assert isinstance(await runner.run(Delivery(run_id, "add_one", {}, {}, "arq:queue", 1)), Succeeded)


async def test_a_job_of_one_statement_costs_four(runner: Runner, proxy: CountingProxy) -> None:
    """BEGIN with the limits, the job's INSERT, the ledger's statement and COMMIT; and its share of a claim."""
    before = proxy.round_trips
    await insert(runner, 2)
    assert proxy.round_trips - before == CLAIM + 4


async def test_a_failure_is_told_by_the_statement_of_a_success(runner: Runner, proxy: CountingProxy) -> None:
    """BEGIN with the limits, the ledger's statement and COMMIT: whatever is told, it is prepared already."""
    before = proxy.round_trips
    outcome = await runner.run(Delivery("f", "scripted", {"ending": "value_error"}, {}, "arq:queue", 1))
    assert isinstance(outcome, Failed)
    assert proxy.round_trips - before == CLAIM + 3


async def test_many_are_claimed_at_the_cost_of_one(runner: Runner, proxy: CountingProxy) -> None:
    """A claim of ten runs is BEGIN with the limits, one statement and COMMIT."""
    before = proxy.round_trips
    claims = await runner.ledger.claim([one_insert(number) for number in range(10, 20)])
    assert all(isinstance(claim, Claimed) for claim in claims)
    assert proxy.round_trips - before == CLAIM


async def test_a_chunk_costs_three_beside_its_own(runner: Runner, proxy: CountingProxy) -> None:
    """Ten rows more are BEGIN with the limits, the chunk's SELECT and UPDATE, the cursor and COMMIT."""
    costs: list[int] = []
    # what a walk reads its later chunks by is prepared in the first of these
    for first in (101, 111, 121):
        async with runner.ledger.database.engine.begin() as connection:
            more = text("INSERT INTO tally (id, value) SELECT n, 0 FROM generate_series(:first, :first + 9) AS n")
            await connection.execute(more, {"first": first})
        before = proxy.round_trips
        await add_one(runner, f"from {first}")
        costs.append(proxy.round_trips - before)
    assert costs[2] - costs[1] == 5


async def test_an_idle_connection_is_asked_whether_it_lives(
    runner: Runner, proxy: CountingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what was in use a moment ago is lent unasked."""
    monkeypatch.setattr(pool, "TRUSTED_S", 0.0)
    await insert(runner, 3)
    before = proxy.round_trips
    await insert(runner, 2)
    assert proxy.round_trips - before == PING + CLAIM + PING + 4
