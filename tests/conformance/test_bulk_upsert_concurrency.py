"""Upserts of one table at the same time: nobody's deadlock, nobody's loss."""

import asyncio
import random
from dataclasses import replace
from decimal import Decimal

import pytest
from sqlalchemy import CheckConstraint

from tests.conftest import MakeRunner
from tests.support.items import ITEM, in_chunks_of, inline, items, upsert
from tests.support.rebuild import rebuild
from worker.core.events import Event, StartedOver
from worker.core.outcomes import Succeeded
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database

RUNS = 6
KEYS = [f"S{n:02}" for n in range(60)]
"""What all runs write, each in an order of its own."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of ten rows, always."""
    return in_chunks_of(settings, 10)


def own_values(run: int, bad: frozenset[str]) -> Delivery:
    """A delivery of all keys with this run's own values, in a random order; some are refused."""
    order = random.Random(run).sample(KEYS, len(KEYS))
    given = [
        {"sku": sku, "name": f"of {run}", "quantity": -1 if sku in bad else run, "price": f"{run}.50"} for sku in order
    ]
    return upsert(inline(*given), f"run-{run}")


@pytest.mark.parametrize("bad", [frozenset[str](), frozenset(KEYS[::9])], ids=["sound", "refused"])
async def test_six_at_once_over_the_same_keys(make_runner: MakeRunner, database: Database, bad: frozenset[str]) -> None:
    """All succeed, halved chunks too, and each row is whole: one of those that the runs had for its key."""
    await rebuild(database, ITEM, CheckConstraint("quantity >= 0"))
    troubles: list[str] = []

    def see(event: Event) -> None:
        if isinstance(event, StartedOver):
            troubles.append(event.kind)

    runners = [replace(make_runner(f"worker-{run}"), emit=see) for run in range(RUNS)]
    outcomes = await asyncio.gather(*(runner.run(own_values(run, bad)) for run, runner in enumerate(runners)))
    counted = {"inserted": 0, "updated": 0, "unchanged": 0, "duplicates": 0, "quarantined": 0}
    for outcome in outcomes:
        assert isinstance(outcome, Succeeded), outcome
        assert isinstance(outcome.result, dict)
        assert outcome.result["read"] == len(KEYS)
        counted = {name: count + outcome.result[name] for name, count in counted.items()}
    sound = len(KEYS) - len(bad)
    # a key is inserted by exactly one of the runs, and every other run's row replaces another's
    assert counted == {
        "inserted": sound,
        "updated": sound * (RUNS - 1),
        "unchanged": 0,
        "duplicates": 0,
        "quarantined": len(bad) * RUNS,
    }
    assert set(troubles) <= {"contention"}
    found = await items(database, "sku", "name", "quantity", "price")
    assert [row[0] for row in found] == [sku for sku in KEYS if sku not in bad]
    assert {row[1:] for row in found} <= {(f"of {run}", run, Decimal(f"{run}.50")) for run in range(RUNS)}
