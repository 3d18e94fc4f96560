"""`bulk_upsert` against a model in plain Python: whatever rows come, in chunks of any size, table and sums are its."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, assume, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import CheckConstraint, delete

from tests.conftest import MakeRunner
from tests.support.chosen import Backend
from tests.support.items import ITEM, exact_key, execute, greatest_quantity, in_chunks_of, items, put, upsert
from tests.support.outcomes import counts
from tests.support.rebuild import rebuild
from worker.database.claims import Delivery
from worker.database.engine import Database
from worker.run.runner import Runner

EXAMPLES = int(os.environ.get("HEAVYLIFT_EXAMPLES", "60"))
"""How many random sources each database is given; raise it to look further."""

Row = Mapping[str, object]
Stored = dict[str, object]

COLUMNS = ("name", "quantity", "price", "note", "shelf", "slot")
REQUIRED = frozenset({"name", "quantity", "price"})

REFUSED_QUANTITY = 13
"""A constraint of the table, which validation knows nothing of, refuses this one."""

TAKEN = 7
"""Another unique constraint refuses this shelf and slot together: a row that no source touches has them."""

KEYS = ["A", "B", "ä", "a", "A ", "e\u0301", "", "\U0001f600", "k" * 40]
BAD_KEYS = [None, "k" * 41, "\x00", 5, ["A"]]

NUMBERS = {"1": 1, "2": 2, '"12"': 12, "-2147483648": -(2**31), "2147483647": 2**31 - 1, "3.0": 3, "-0.0": 0}
"""JSON that a column of integers takes, and what it stores."""

LARGE = {"2147483648": 2**31, "-9223372036854775808": -(2**63)}
"""JSON that a column of integers takes where these have 64 bits."""

PRICES = {
    given: Decimal(given.strip('"'))
    for given in ('"1"', "1", "0.1", '"-0.00"', '"9999999999.99"', '"1e2"', "-7.25", '"0.10"')
}
"""JSON that a column of prices takes, and what it stores."""

BAD_NUMBERS = [
    *LARGE,
    "9223372036854775808",
    "1e300",
    "123456789012345678901234567890",
    '"many"',
    "1.5",
    "null",
    "[1]",
    "{}",
    '""',
]
BAD_PRICES = ["1.005", '"10000000000"', '"NaN"', "1e300", "null", "[]", '"x"', "0.12345678901234567890123"]


def written(*given: object) -> st.SearchStrategy[str]:
    """One of some values, as JSON."""
    return st.sampled_from([json.dumps(value) for value in given])


anything = st.characters(codec=None, exclude_categories=())
text_values = st.text(anything, max_size=4).map(json.dumps)
texts = written("x", "y", "", "é", "e\u0301", "\U0001f600", "' \\ \"") | text_values
whole_row = st.fixed_dictionaries(
    {
        "sku": written(*KEYS),
        "name": texts,
        "quantity": st.sampled_from([*NUMBERS, str(REFUSED_QUANTITY)]),
        "price": st.sampled_from(list(PRICES)),
    },
    optional={"note": texts, "shelf": st.sampled_from(["null", str(TAKEN)]), "slot": st.just(str(TAKEN))},
)
"""A row that fits as far as validation can know; each member is the JSON that a file has."""

ODD: dict[str, list[str]] = {
    "sku": [json.dumps(key) for key in BAD_KEYS],
    "name": [json.dumps(name) for name in (None, 5, "\x00", "\ud800", ["x"])],
    "quantity": [str(REFUSED_QUANTITY), *BAD_NUMBERS],
    "price": BAD_PRICES,
    "note": [json.dumps(note) for note in (None, "\x00", {"a": 1}, 1.5)],
    "shelf": ["null", str(TAKEN)],
    "slot": ["null", str(TAKEN)],
}
odd_members = st.sampled_from([{name: value} for name, values in ODD.items() for value in values])
odd_row = st.builds(lambda row, odd: row | odd, whole_row, odd_members)
"""A row of which one value does not fit, or may not."""

part_of_row = st.builds(
    lambda row, lacking: {name: value for name, value in row.items() if name not in lacking},
    whole_row | odd_row,
    st.sets(st.sampled_from(["sku", *COLUMNS]), max_size=2),
)
"""A row that lacks members, which others may have."""


def without(source: list[dict[str, str]], lacking: str) -> list[dict[str, str]]:
    """The same rows, none of which carries one of the columns."""
    return [{name: value for name, value in given_row.items() if name != lacking} for given_row in source]


sources = st.lists(whole_row | odd_row | part_of_row, min_size=1, max_size=14)
sources |= st.builds(without, st.lists(whole_row, min_size=1, max_size=8), st.sampled_from(COLUMNS))
stored = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(["x", "", "é"]), max_size=len(KEYS))


EVERYTHING: list[dict[str, str]] = [
    {"sku": f'"{name} {at}"', "name": '"x"', "quantity": "1", "price": "1", "shelf": str(TAKEN), name: value}
    for name, odd in ODD.items()
    for at, value in enumerate(odd)
]
"""A row of its own for each value that does not fit, or may not."""


@dataclass
class Model:
    """What the table should be after some rows, and what should be counted where no key comes twice."""

    table: dict[str, Stored]
    columns: Sequence[str]
    numbers: Mapping[str, int]
    counts: Counter[str] = field(default_factory=Counter)

    def take(self, given: Mapping[str, str]) -> None:
        """Take the next row of the source."""
        values = {name: _stored(name, given.get(name, "null"), self.numbers) for name in self.columns}
        sku = _key(given.get("sku", "null"))
        if sku is None or Misfit in values.values() or not REQUIRED.issubset(self.columns) or _refused(values):
            self.counts["quarantined"] += 1
        elif sku not in self.table:
            self.table[sku] = {**dict.fromkeys(COLUMNS), **values}
            self.counts["inserted"] += 1
        elif values.items() <= self.table[sku].items():
            self.counts["unchanged"] += 1
        else:
            self.table[sku] |= values
            self.counts["updated"] += 1


class Misfit:
    """What stands for a value that its column does not take."""


def _stored(name: str, given: str, numbers: Mapping[str, int]) -> object:
    """What a column stores of a JSON text; an absent value comes as null."""
    if name in {"quantity", "price"}:
        known: Mapping[str, object] = numbers if name == "quantity" else PRICES
        return known.get(given, Misfit)
    value = json.loads(given)
    if name in {"shelf", "slot"} or (value is None and name == "note"):
        return value
    return value if isinstance(value, str) and _storable(value) else Misfit


def _key(given: str) -> str | None:
    value = json.loads(given)
    return value if isinstance(value, str) and _storable(value) and len(value) <= 40 else None


def _storable(text: str) -> bool:
    return "\x00" not in text and not _lone(text)


def _lone(text: str) -> bool:
    """Whether a text holds half of a surrogate pair."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _refused(values: Stored) -> bool:
    """Whether the database refuses what validation admits."""
    return values.get("quantity") == REFUSED_QUANTITY or values.get("shelf") == values.get("slot") == TAKEN


def _readable(given: Mapping[str, str]) -> bool:
    """Whether a line of a file can be read at all."""
    texts_of = [value for value in map(json.loads, given.values()) if isinstance(value, str)]
    return not any(map(_lone, texts_of))


@pytest.fixture
async def runner(make_runner: MakeRunner, database: Database, backend: Backend) -> Runner:
    """One runner for all examples, on a table that is stricter than its model."""
    check = CheckConstraint(f"quantity <> {REFUSED_QUANTITY}")
    await rebuild(database, ITEM, check, types=exact_key(backend))
    runner: Runner = make_runner()
    return runner


@pytest.mark.timeout(600)
@example(before={}, source=EVERYTHING, chunk=5, inline=False)
@example(before={}, source=[{"sku": '"A"', "name": '"x"', "quantity": "1", "price": "1"}] * 3, chunk=2, inline=True)
@hypothesis_settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(before=stored, source=sources, chunk=st.integers(1, 6), inline=st.booleans())
async def test_any_rows_against_a_model(
    runner: Runner,
    database: Database,
    backend: Backend,
    tmp_path: Path,
    before: dict[str, str],
    source: list[dict[str, str]],
    chunk: int,
    *,
    inline: bool,
) -> None:
    """Table, `read` and sums are the model's wherever chunks are cut; all counts are, where no key comes twice."""
    readable = [given_row for given_row in source if _readable(given_row)]
    carried = {name for given_row in readable for name in given_row}
    # a source without its key is refused as a whole, which is another test's business
    assume("sku" in carried)
    await execute(database, delete(ITEM))
    await put(database, [{"sku": "Z", "shelf": TAKEN, "slot": TAKEN}])
    if before:
        await put(database, [{"sku": sku, "name": name} for sku, name in before.items()])
    numbers = {**NUMBERS, str(REFUSED_QUANTITY): REFUSED_QUANTITY}
    if greatest_quantity(backend) > 2**31:
        numbers |= LARGE
    model = Model(await _table(database), [name for name in COLUMNS if name in carried], numbers)
    sized = replace(runner, settings=in_chunks_of(runner.settings, chunk))
    outcome = await sized.run(_delivery(source, tmp_path, inline=inline))
    for given_row in source:
        model.take(given_row)
    found = counts(outcome)
    assert await _table(database) == model.table
    assert found["read"] == len(source)
    keys = [key for given_row in source if (key := _key(given_row.get("sku", "null"))) is not None]
    if len(keys) == len(set(keys)):
        assert found == {"read": len(source), **model.counts}
    placed = await items(database, "sku", "shelf", "slot")
    assert [sku for sku, *place in placed if place == [TAKEN, TAKEN]] == ["Z"]


def _delivery(source: list[dict[str, str]], folder: Path, *, inline: bool) -> Delivery:
    """The rows as a request where it can hold them, and as a file."""
    lines = [f"{{{', '.join(f'{json.dumps(name)}: {value}' for name, value in row.items())}}}" for row in source]
    given: dict[str, object] = {"rows": [json.loads(line) for line in lines]}
    # a request holds no lone surrogates and no integers beyond 64 bits
    if not inline or not all(map(_readable, source)) or any("12345678901234567890" in line for line in lines):
        path = folder / "items.ndjson"
        path.write_text("\n".join(lines))
        given = {"uri": path.as_uri()}
    return upsert(given, uuid4().hex)


async def _table(database: Database) -> dict[str, Stored]:
    found = await items(database, "sku", *COLUMNS)
    return {str(sku): dict(zip(COLUMNS, values, strict=True)) for sku, *values in found if sku != "Z"}
