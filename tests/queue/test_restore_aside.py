"""Redis lost something of what no worker could begin: what can come back does, and what cannot is said."""

from datetime import timedelta

from tests.support.deliveries import ENQUEUED_MS, unknown_job, unreadable
from tests.support.stores import NOW, Stores
from worker.core.clock import to_ms
from worker.core.outcomes import Status
from worker.core.settings import Settings
from worker.database.aside import put_aside
from worker.database.ledger import Ledger
from worker.queue.restore import Restorer

DUE = NOW + timedelta(hours=1)


async def test_a_flush_brings_unknown_jobs_back_as_they_came(
    stores: Stores, settings: Settings, restorer: Restorer
) -> None:
    """By position what came by position, at the moment when it is tried again."""
    kwargs = {"table": "item", "_options": {"all": True}}
    came = unknown_job("r", ("x", 7), kwargs)
    await put_aside(stores.database, settings, [came], DUE)
    await restorer.run_if_needed(lost=True)
    payload = (await stores.payloads())["r"]
    assert (payload["f"], list(payload["a"])) == ("new_job", ["x", 7])  # type: ignore[call-overload]  # a sequence
    assert payload["k"] == kwargs
    assert (payload["et"], await stores.scores()) == (ENQUEUED_MS, {"r": to_ms(DUE)})


async def test_a_lost_payload_that_nobody_read_ends_its_run(
    stores: Stores, settings: Settings, restorer: Restorer
) -> None:
    """Nothing is left that could run: it fails, saying so, and is not delivered without its parameters."""
    asides = [unreadable("r"), unreadable("there")]
    await put_aside(stores.database, settings, asides, DUE)
    await stores.redis.set("arq:job:there", b"\x1f\x8b")
    restored = await restorer.run_if_needed(lost=True)
    assert restored is not None
    assert (restored.delivered, restored.lost) == (1, 1)
    record = await Ledger(stores.database, settings, "test").read("r")
    assert (record.status, record.error and record.error.type) == (Status.FAILED, "PayloadLost")
    assert record.finished_at is not None
    assert await stores.status("there") == "waiting"
    assert (await stores.raw_payloads(), await stores.scores()) == ({"there": b"\x1f\x8b"}, {"there": to_ms(DUE)})


async def test_parameters_that_the_ledger_could_not_keep_are_not_made_up(
    stores: Stores, settings: Settings, restorer: Restorer
) -> None:
    """An unknown job whose parameters are nowhere any more is not delivered without them."""
    kwargs = {"data": b"\xff"}
    came = unknown_job("r", (), kwargs)
    await put_aside(stores.database, settings, [came], DUE)
    await restorer.run_if_needed(lost=True)
    assert await stores.payloads() == {}
