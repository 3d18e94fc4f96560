"""A COMMIT whose fate the worker cannot know: settled by a new claim, never redone and never skipped."""

import pytest
from pydantic import SecretStr

from tests.chaos.conftest import TALLIES, Values
from tests.conftest import MakeRunner
from tests.support.fault_plan import Fault, FaultsAt
from tests.support.fault_proxy import FaultProxy
from worker.core.outcomes import Failed, Succeeded
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.ledger import Ledger

pytestmark = [pytest.mark.chaos, pytest.mark.only_on("postgresql", "mariadb", why="there is no wire to SQLite")]

CLAIM, FIRST_CHUNK, SECOND_CHUNK, FINAL = 1, 2, 3, 5
DELIVERY = Delivery("doubtful", "add_one", {}, {}, "arq:queue", 1)


def url_of(settings: Settings) -> str:
    """Of the database."""
    assert settings.database_url is not None
    return settings.database_url.get_secret_value()


def through(proxy: FaultProxy, settings: Settings) -> Settings:
    """The same settings, with the database behind the proxy."""
    return settings.model_copy(update={"database_url": SecretStr(proxy.url(url_of(settings)))})


LOSSES = [Fault.NEVER_ARRIVES, Fault.REPLY_LOST, Fault.LANDS_LATE]


@pytest.mark.parametrize("fault", LOSSES, ids=lambda fault: fault.name.lower())
@pytest.mark.parametrize("commit", [FIRST_CHUNK, SECOND_CHUNK, FINAL], ids=["first_chunk", "second_chunk", "final"])
async def test_each_row_is_done_once_in_one_attempt(
    settings: Settings, make_runner: MakeRunner, values: Values, commit: int, fault: Fault
) -> None:
    """Whatever became of a chunk's or the last COMMIT, the run succeeds in its attempt with each row done once."""
    async with FaultProxy(url_of(settings), FaultsAt({commit: fault})) as proxy:
        runner = make_runner(changed=through(proxy, settings))
        outcome = await runner.run(DELIVERY)
        record = await runner.ledger.read("doubtful")
        await runner.ledger.database.dispose()
    assert outcome == Succeeded(TALLIES)
    assert await values() == [1] * TALLIES
    assert (record.status, record.attempts, record.crashes, record.done) == ("succeeded", 1, 0, TALLIES)
    assert proxy.commits > commit, "the fault was never met"


async def test_a_claim_in_doubt_is_claimed_again(settings: Settings, make_runner: MakeRunner, values: Values) -> None:
    """A claim whose reply was lost raises, does nothing, and the next delivery does the run once."""
    async with FaultProxy(url_of(settings), FaultsAt({CLAIM: Fault.REPLY_LOST})) as proxy:
        runner = make_runner(changed=through(proxy, settings))
        with pytest.raises(runner.ledger.database.raises):
            await runner.run(DELIVERY)
        assert await values() == [0] * TALLIES
        assert await runner.run(DELIVERY) == Succeeded(TALLIES)
        await runner.ledger.database.dispose()
    assert await values() == [1] * TALLIES


async def test_a_late_commit_is_waited_for(settings: Settings, make_runner: MakeRunner, values: Values) -> None:
    """A COMMIT that lands after the client was cut is found by the new claim, which waited behind its row lock."""
    async with FaultProxy(url_of(settings), FaultsAt({FIRST_CHUNK: Fault.LANDS_LATE}, held_s=1.0)) as proxy:
        runner = make_runner(changed=through(proxy, settings))
        began = runner.clock.monotonic_ms()
        assert await runner.run(DELIVERY) == Succeeded(TALLIES)
        waited_ms = runner.clock.monotonic_ms() - began
        await runner.ledger.database.dispose()
    ledger: Ledger = make_runner().ledger
    record = await ledger.read("doubtful")
    assert waited_ms >= 900
    assert (record.fence, record.done) == (2, TALLIES)
    assert await values() == [1] * TALLIES


@pytest.mark.parametrize("fault", [Fault.REPLY_LOST, Fault.NEVER_ARRIVES], ids=lambda fault: fault.name.lower())
async def test_a_failure_in_doubt_is_the_failure(settings: Settings, make_runner: MakeRunner, fault: Fault) -> None:
    """An outcome whose COMMIT lost its reply is written once, and the attempt ends as it did."""
    delivery = Delivery("doubtful", "scripted", {"ending": "value_error"}, {}, "arq:queue", 1)
    async with FaultProxy(url_of(settings), FaultsAt({CLAIM + 1: fault})) as proxy:
        runner = make_runner(changed=through(proxy, settings))
        outcome = await runner.run(delivery)
        record = await runner.ledger.read("doubtful")
        await runner.ledger.database.dispose()
    assert isinstance(outcome, Failed)
    assert (record.status, record.attempts) == ("failed", 1)
