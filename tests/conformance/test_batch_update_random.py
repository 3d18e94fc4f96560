"""`batch_update` against a model in plain Python, and interrupted wherever it can be: the same table and counts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import CheckConstraint, delete

from tests.conftest import MakeRunner
from tests.support.chosen import Backend
from tests.support.items import ITEM, exact_key, execute, greatest_quantity, in_chunks_of, items, put, refusals
from tests.support.rebuild import rebuild
from tests.support.updates import counts, delivery
from worker.core.events import ChunkCommitted, Event
from worker.core.outcomes import Interrupted, Outcome
from worker.database.engine import Database
from worker.run.runner import Runner
from worker.run.stop_signal import StopSignal

KEYS = ["A", "B", "ä", "a", "e\u0301", "", "A "]
REFUSED_QUANTITY = 13
"""A constraint of the table, which validation knows nothing of, refuses this one."""

COLUMNS = ("name", "quantity", "price", "note")
QUARANTINED = ("chunk", "position", "reason", "sqlstate", "constraint_name", "payload")

Row = Mapping[str, object]
Stored = dict[str, object]


texts = st.text(max_size=4) | st.sampled_from(["x", "", "é", "e\u0301", "\U0001f600"])
quantities = st.sampled_from([1, 1, 2, "12", -(2**31), 2**31 - 1]) | st.sampled_from(
    [REFUSED_QUANTITY, 2**31, 2**63, "many", 1.5, None, [1]]
)
prices = st.sampled_from(["1", 1, "-0.00", "9999999999.99", "1e2"]) | st.sampled_from(
    ["1.005", "10000000000", "NaN", None]
)
row = st.fixed_dictionaries(
    {"sku": st.sampled_from(KEYS) | st.sampled_from(KEYS) | st.none()},
    optional={
        "name": texts | texts | st.sampled_from([None, 5, "\x00"]),
        "quantity": quantities,
        "price": prices,
        "note": texts | st.sampled_from([None, "\x00"]),
    },
)
stored = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(["x", "", "é"]), max_size=len(KEYS))


@dataclass
class Model:
    """What the table should be after some rows, and what should be counted where no key comes twice."""

    table: dict[str, Stored]
    columns: Sequence[str]
    greatest: int
    counts: Counter[str] = field(default_factory=Counter)

    def take(self, given: Row) -> None:
        """Take the next row of the source."""
        sku = given["sku"]
        fits = isinstance(sku, str) and all(self._fits(name, given.get(name)) for name in self.columns)
        if not fits:
            self.counts["quarantined"] += 1
        elif sku not in self.table:
            self.counts["missing"] += 1
        else:
            self._change(str(sku), {name: _stored(name, given.get(name)) for name in self.columns})

    def _change(self, sku: str, changed: Stored) -> None:
        if changed.items() <= self.table[sku].items():
            self.counts["unchanged"] += 1
        elif changed.get("quantity") == REFUSED_QUANTITY:
            self.counts["quarantined"] += 1
        else:
            self.table[sku] |= changed
            self.counts["updated"] += 1

    def _fits(self, name: str, value: object) -> bool:
        """Whether a column takes a value, as far as validation can know; an absent one comes as None."""
        match name:
            case "quantity":
                return value == "12" or (isinstance(value, int) and -self.greatest - 1 <= value <= self.greatest)
            case "price":
                return value in {"1", 1, "-0.00", "9999999999.99", "1e2"}
            case "note" if value is None:
                return True
        return isinstance(value, str) and "\x00" not in value


def _stored(name: str, value: object) -> object:
    """A value that fits, as the table has it."""
    return {"quantity": int, "price": Decimal}[name](str(value)) if name in {"quantity", "price"} else value


@pytest.fixture
async def runner(make_runner: MakeRunner, database: Database, backend: Backend) -> Runner:
    """One runner for all examples, on a table with a constraint."""
    check = CheckConstraint(f"quantity <> {REFUSED_QUANTITY}")
    await rebuild(database, ITEM, check, types=exact_key(backend))
    runner: Runner = make_runner()
    return runner


@pytest.mark.timeout(600)
@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(before=stored, source=st.lists(row, min_size=1, max_size=12), chunk=st.integers(1, 5))
async def test_any_rows_against_a_model(
    runner: Runner, database: Database, backend: Backend, before: dict[str, str], source: list[Row], chunk: int
) -> None:
    """Whatever rows come, in chunks of any size, table, `read` and sums are the model's; all counts if keys differ."""
    carried = [name for name in COLUMNS if any(name in given_row for given_row in source)]
    if not carried:
        source, carried = [{**given_row, "note": None} for given_row in source], ["note"]
    await execute(database, delete(ITEM))
    if before:
        await put(database, [{"sku": sku, "name": name} for sku, name in before.items()])
    model = Model(await _table(database), carried, greatest_quantity(backend))
    sized = replace(runner, settings=in_chunks_of(runner.settings, chunk))
    found = counts(await sized.run(delivery({"source": {"rows": source}}, uuid4().hex)))
    for given_row in source:
        model.take(given_row)
    assert await _table(database) == model.table
    assert found["read"] == len(source)
    keys = [given_row["sku"] for given_row in source if given_row["sku"] is not None]
    if len(keys) == len(set(keys)):
        assert found == {"read": len(source), **model.counts}


async def _table(database: Database) -> dict[str, Stored]:
    found = await items(database, "sku", *COLUMNS)
    return {str(sku): dict(zip(COLUMNS, values, strict=True)) for sku, *values in found}


FORMS: dict[str, Row] = {
    "where": {"where": {"quantity": {"between": [3, 40]}}, "set": {"note": "seen", "price": 5}},
    "source": {
        "source": {
            "rows": [
                {"sku": f"S{n % 53:02}", "quantity": "many" if n % 11 == 0 else n, "note": None if n % 3 else "x"}
                for n in range(0, 90, 2)
            ]
        }
    },
}


@pytest.mark.parametrize("form", FORMS)
async def test_interrupted_at_every_chunk(make_runner: MakeRunner, database: Database, form: str) -> None:
    """A run that is stopped after each of its chunks, and goes on each time, ends as one that was left alone."""
    runner = make_runner(changed=in_chunks_of(make_runner().settings, 4))
    await rebuild(database, ITEM, CheckConstraint(f"quantity <> {REFUSED_QUANTITY} OR price < 5"))
    await _fill(database)
    undisturbed = counts(await runner.run(delivery(FORMS[form], "left-alone")))
    table = await items(database, "sku", *COLUMNS)
    refused = await refusals(database, "left-alone", *QUARANTINED)
    await _fill(database)
    outcomes = await _interrupted(runner, "stopped", FORMS[form])
    assert len(outcomes) >= 10
    assert all(outcome == Interrupted() for outcome in outcomes[:-1])
    assert counts(outcomes[-1]) == undisturbed
    assert await items(database, "sku", *COLUMNS) == table
    assert await refusals(database, "stopped", *QUARANTINED) == refused


async def _fill(database: Database) -> None:
    await execute(database, delete(ITEM))
    await put(database, [{"sku": f"S{n:02}", "quantity": n} for n in range(50)])


async def _interrupted(runner: Runner, run_id: str, params: Row) -> list[Outcome]:
    """How each attempt of a run ends whose worker is told to stop as soon as it commits a chunk."""
    outcomes: list[Outcome] = []
    while not outcomes or outcomes[-1] == Interrupted():
        stop = StopSignal()

        def see(event: Event, stop: StopSignal = stop) -> None:
            if isinstance(event, ChunkCommitted):
                stop.set()

        outcomes.append(await replace(runner, stop=stop, emit=see).run(delivery(params, run_id)))
    return outcomes
