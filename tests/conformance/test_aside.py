"""Deliveries that no worker here can begin: shown, kept as they came, and taken up as soon as one can."""

import subprocess
import sys
from datetime import timedelta

import pytest
from arq.connections import RedisSettings, create_pool

from tests.conftest import MakeRunner
from tests.support.deliveries import unknown_job, unreadable
from tests.support.stores import ENQUEUED, NOW, QUEUE, SetClock, Stores
from worker.core.clock import to_ms
from worker.core.outcomes import Failed, Interrupted, Status, Succeeded
from worker.core.settings import Settings
from worker.database.aside import put_aside
from worker.database.claims import UNREADABLE, Claimed, Delivery, NotClaimable, PutAside
from worker.database.ledger import Ledger
from worker.database.records import RunRecord
from worker.queue.put_aside import pull_forward

ENQUEUED_MS = to_ms(ENQUEUED)
DUE = NOW + timedelta(hours=1)


def unknown(
    run_id: str = "r", *args: object, enqueued_ms: int = ENQUEUED_MS, job: str = "new_job", **kwargs: object
) -> PutAside:
    """A delivery of a job that no worker here knows."""
    return unknown_job(run_id, args, kwargs, job=job, enqueued_ms=enqueued_ms)


@pytest.fixture
def ledger(stores: Stores, settings: Settings) -> Ledger:
    """A worker's ledger."""
    return Ledger(stores.database, settings, "test")


async def put(stores: Stores, settings: Settings, *asides: PutAside) -> list[NotClaimable]:
    """Put some aside until a few seconds from now."""
    return await put_aside(stores.database, settings, asides, DUE)


def said(record: RunRecord) -> tuple[str, str, dict[str, object]]:
    """What a record says of what was asked for."""
    return record.job, record.status.value, record.params


async def test_an_unknown_job_is_shown_as_it_was_delivered(stores: Stores, settings: Settings, ledger: Ledger) -> None:
    """A vanilla client's run of an unknown job is in the ledger: job, parameters, why it waits and until when."""
    assert await put(stores, settings, unknown("r", table="item", _options={"all": True})) == []
    record = await ledger.read("r")
    assert said(record) == ("new_job", "waiting", {"table": "item"})
    again = DUE.isoformat(timespec="seconds")
    assert record.waiting_for == f"job 'new_job' is not known to this worker, which knows a, b; tried again at {again}"
    assert (record.enqueued_at, record.attempts, record.crashes, record.fence) == (ENQUEUED, 0, 0, 0)


async def test_a_run_that_the_ledger_knows_keeps_what_it_is(stores: Stores, settings: Settings, ledger: Ledger) -> None:
    """What our client wrote down stays; only that it waits, why and until when is new."""
    await stores.write("r", job="new_job", params={"value": 7}, attempts=2, crashes=1)
    await put(stores, settings, unknown("r", value=8))
    await put(stores, settings, unreadable("r"))
    record = await ledger.read("r")
    assert said(record) == ("new_job", "waiting", {"value": 7})
    assert (record.attempts, record.crashes, record.enqueued_by) == (2, 1, "me")
    assert record.waiting_for is not None
    assert record.waiting_for.startswith("its payload cannot be read: The payload begins with")


async def test_many_are_put_aside_at_once_and_again_and_again(
    stores: Stores, settings: Settings, ledger: Ledger
) -> None:
    """Each time their moment is the new one, and there is one run of each."""
    asides = [unknown(f"r{number}", value=number) for number in range(30)] + [unreadable("x")]
    for _ in range(3):
        assert await put(stores, settings, *asides) == []
    assert (await ledger.read("r7")).params == {"value": 7}
    assert await stores.count() == 31


async def test_a_word_that_comes_late_is_void(stores: Stores, settings: Settings, ledger: Ledger) -> None:
    """Said after the next try was due, it does not hide that another worker has begun the run meanwhile."""
    await stores.write("r", "running", job="new_job", started_at=NOW)
    late = NOW - timedelta(seconds=1)
    assert await put_aside(stores.database, settings, [unknown("r"), unknown("unseen")], late) == []
    record = await ledger.read("r")
    assert (record.status, record.waiting_for) == (Status.RUNNING, None)
    assert await stores.status("unseen") == "waiting"


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled", "paused"])
async def test_what_is_over_or_paused_is_found_not_put_aside(stores: Stores, settings: Settings, status: str) -> None:
    """A redelivery of such a run leaves it alone and is told what it is, for its answer."""
    await stores.write("r", status, enqueued_by=None, result=5)
    (found,) = await put(stores, settings, unknown("r"))
    assert found == NotClaimable("r", Status(status), ENQUEUED_MS, 5, None)
    assert await stores.status("r") == status


async def test_a_later_use_of_a_finished_id_is_a_new_run(stores: Stores, settings: Settings, ledger: Ledger) -> None:
    """The finished one is kept under ~1, as it is when a known job's id is used again."""
    await stores.write("r", "succeeded", result=5)
    assert await put(stores, settings, unknown("r", enqueued_ms=ENQUEUED_MS + 1)) == []
    assert said(await ledger.read("r")) == ("new_job", "waiting", {})
    assert (await ledger.read("r~1")).result == 5


async def test_what_cannot_be_read_is_no_new_use_of_a_finished_id(stores: Stores, settings: Settings) -> None:
    """Nobody can tell how old it is, so the finished run stays what the id means."""
    await stores.write("r", "succeeded", result=5)
    (found,) = await put(stores, settings, unreadable("r"))
    assert found.status is Status.SUCCEEDED


async def test_a_placeholder_becomes_the_run_once_a_worker_can_read_it(
    stores: Stores, settings: Settings, make_runner: MakeRunner
) -> None:
    """The claim takes job, parameters, options and enqueue time from the delivery; the run is done under its own id."""
    await put(stores, settings, unreadable("r"))
    runner = make_runner()
    assert said(await runner.ledger.read("r")) == (UNREADABLE, "waiting", {})
    delivery = Delivery("r", "scripted", {"value": 7}, {"all": True}, QUEUE, ENQUEUED_MS)
    (claimed,) = await runner.ledger.claim([delivery])
    assert isinstance(claimed, Claimed)
    assert (claimed.job, claimed.params, claimed.options) == ("scripted", {"value": 7}, {"all": True})
    assert (claimed.crashes, claimed.attempts) == (0, 0)
    assert await runner.attempt(claimed) == Succeeded(7)
    record = await runner.ledger.read("r")
    assert (record.enqueued_at, record.waiting_for, record.attempts) == (ENQUEUED, None, 1)
    (again,) = await runner.ledger.claim([delivery])
    assert again == NotClaimable("r", Status.SUCCEEDED, ENQUEUED_MS, 7), "a redelivery is the same run"


async def test_a_placeholder_becomes_an_unknown_jobs_run(stores: Stores, settings: Settings, ledger: Ledger) -> None:
    """A worker that can read it, though not run it, shows what it is; one that cannot does not hide that again."""
    await put(stores, settings, unreadable("r"))
    await put(stores, settings, unknown("r", value=7))
    await put(stores, settings, unreadable("r"))
    record = await ledger.read("r")
    assert said(record) == ("new_job", "waiting", {"value": 7})
    assert record.enqueued_at == ENQUEUED


async def test_positional_arguments_get_their_names_when_the_job_is_known(
    stores: Stores, settings: Settings, make_runner: MakeRunner
) -> None:
    """The claim's parameters, by name, replace what was kept by position."""
    await put(stores, settings, unknown("r", "return", 7, job="scripted"))
    runner = make_runner()
    assert (await runner.ledger.read("r")).params == {"*args": ["return", 7]}
    delivery = Delivery("r", "scripted", {"ending": "return", "value": 7}, {}, QUEUE, ENQUEUED_MS)
    assert await runner.run(delivery) == Succeeded(7)


async def test_a_claimed_runs_parameters_are_the_ledgers(stores: Stores, make_runner: MakeRunner) -> None:
    """Once a run has begun, or where our client wrote it down, no delivery changes what it is."""
    runner = make_runner()
    for number, by in enumerate(("me", None)):
        run_id = f"r{number}"
        began = None if by else NOW
        await stores.write(run_id, params={"value": 7}, enqueued_by=by, started_at=began)
        (claimed,) = await runner.ledger.claim([Delivery(run_id, "other", {"value": 8}, {}, QUEUE, ENQUEUED_MS)])
        assert isinstance(claimed, Claimed)
        assert (claimed.job, claimed.params) == ("scripted", {"value": 7})
        await runner.ledger.end(claimed, Interrupted())


async def test_parameters_that_json_cannot_hold_are_never_dropped(
    stores: Stores, settings: Settings, ledger: Ledger
) -> None:
    """An unknown job with such is shown as unreadable, with its name in the reason, so that no sweep makes it up."""
    await put(stores, settings, unknown("r", data=b"\xff"))
    record = await ledger.read("r")
    assert record.job == UNREADABLE
    assert record.waiting_for is not None
    assert "'new_job' is not known" in record.waiting_for
    assert "UTF-8" in record.waiting_for


@pytest.mark.parametrize("job", ["x" * 100_000, "a\x00b", "\x1b[31m", ""])
async def test_any_name_of_a_job_can_be_put_aside(stores: Stores, settings: Settings, job: str) -> None:
    """A name from a payload may be anything; one that the ledger cannot hold does not keep the others out."""
    assert await put(stores, settings, unknown("r", job=job), unknown("other")) == []
    assert await stores.count() == 2


async def test_a_worker_that_starts_pulls_its_jobs_forward(stores: Stores, settings: Settings, clock: SetClock) -> None:
    """What waited for a worker with its job is due now; other jobs, other waits and what left the queue are not."""
    await put(stores, settings, unknown("mine"), unknown("gone"), unknown("other's", job="other"), unreadable("x"))
    await stores.write("deferred", "waiting", job="new_job", due_at=DUE, waiting_for="deferred until ...")
    queued = dict.fromkeys(("mine", "other's", "x", "deferred"), to_ms(DUE))
    await stores.redis.zadd(QUEUE, queued)
    assert await pull_forward(stores.redis, stores.database, settings, ["new_job", "scripted"], clock) == 1
    assert await stores.scores() == queued | {"mine": to_ms(clock.now())}


async def test_more_than_a_page_is_pulled_forward(stores: Stores, settings: Settings, clock: SetClock) -> None:
    """However many wait, each is due now."""
    asides = [unknown(f"r{number}", enqueued_ms=ENQUEUED_MS + number // 100) for number in range(1_100)]
    await put(stores, settings, *asides)
    await stores.redis.zadd(QUEUE, dict.fromkeys((aside.delivery.run_id for aside in asides), to_ms(DUE)))
    assert await pull_forward(stores.redis, stores.database, settings, ["new_job"], clock) == 1_100


async def test_what_is_put_aside_can_be_seen(stores: Stores, settings: Settings, environment: dict[str, str]) -> None:
    """`heavylift runs --status waiting` and `heavylift show` tell the job, the parameters and the reason."""
    await put(stores, settings, unknown("r", "x", table="item"), unreadable("odd"))

    def heavylift(*words: str) -> str:
        command = [sys.executable, "-m", "worker.cli", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    listed = {line.split("\t")[0]: line.split("\t") for line in heavylift("runs", "--status", "waiting").splitlines()}
    assert listed["r"][1:3] == ["new_job", "waiting"]
    assert listed["r"][-1].startswith("job 'new_job' is not known to this worker, which knows a, b; tried again at ")
    assert listed["odd"][1] == UNREADABLE
    shown = heavylift("show", "r")
    assert "waiting for   job 'new_job' is not known to this worker" in shown
    assert '{"table": "item", "*args": ["x"]}' in shown
    assert "its payload cannot be read: The payload begins" in heavylift("show", "odd")


async def test_a_vanilla_clients_payload_is_put_aside_whole(
    stores: Stores, settings: Settings, redis_url: str, ledger: Ledger
) -> None:
    """What arq's own client wrote, decoded as a worker does, comes out of the ledger as the same call."""
    vanilla = await create_pool(RedisSettings.from_dsn(redis_url))
    await vanilla.enqueue_job("new_job", 1, when=NOW, _job_id="r")
    await vanilla.aclose(close_connection_pool=True)
    message = (await stores.payloads())["r"]
    args, kwargs = message["a"], message["k"]
    assert isinstance(args, tuple)
    assert isinstance(kwargs, dict)
    await put(stores, settings, unknown("r", *args, **kwargs))
    assert (await ledger.read("r")).params == {"when": NOW.isoformat(), "*args": [1]}


async def test_a_job_that_fails_keeps_its_real_error(
    stores: Stores, settings: Settings, make_runner: MakeRunner
) -> None:
    """A run that was put aside first ends as any other does."""
    await put(stores, settings, unknown("r", ending="value_error", job="scripted"))
    outcome = await make_runner().run(Delivery("r", "scripted", {"ending": "value_error"}, {}, QUEUE, ENQUEUED_MS))
    assert isinstance(outcome, Failed)
    assert outcome.error.message == "scripted to fail"
