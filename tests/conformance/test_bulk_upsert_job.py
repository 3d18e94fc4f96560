"""`bulk_upsert` through the runner: every kind of source, every rule of counting, and bad input."""

import gzip
import json
import zipfile
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import delete

from tests.conftest import MakeRunner
from tests.support.chosen import Backend
from tests.support.items import (
    ITEM,
    Source,
    exact_key,
    execute,
    greatest_quantity,
    in_chunks_of,
    inline,
    items,
    quarantined,
    upsert,
)
from tests.support.outcomes import counts, message
from tests.support.rebuild import rebuild
from worker.core.outcomes import Succeeded
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database
from worker.run.runner import Runner

HEADER = "sku,name,quantity,price,note\n"
LINES = [f"S{number},item {number},{number},{number}.50,\n" for number in range(25)]
TEXT = HEADER + "".join(LINES)
COUNTS = {"read": 25, "inserted": 25, "updated": 0, "unchanged": 0, "duplicates": 0, "quarantined": 0}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of four rows, always."""
    return in_chunks_of(settings, 4)


def listed(*rows: tuple[object, ...]) -> Source:
    """A source of rows given as (sku, name, quantity, price)."""
    return inline(*(dict(zip(("sku", "name", "quantity", "price"), row, strict=True)) for row in rows))


async def table(database: Database) -> dict[object, tuple[object, ...]]:
    """The table: name, quantity and price by key."""
    return {sku: tuple(values) for sku, *values in await items(database, "sku", "name", "quantity", "price")}


def write(folder: Path, kind: str) -> Path:
    """The same 25 items, in a file of some kind."""
    path = folder / f"items.{kind}"
    objects = "".join(
        json.dumps({"sku": f"S{number}", "name": f"item {number}", "quantity": number, "price": f"{number}.50"}) + "\n"
        for number in range(25)
    )
    body = objects if "ndjson" in kind else TEXT
    if kind.endswith("gz"):
        path.write_bytes(gzip.compress(body.encode()))
    elif kind.endswith("zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("items.csv", body)
    else:
        path.write_text(body)
    return path


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "csv.zip", "ndjson", "ndjson.gz"])
async def test_every_kind_of_file(make_runner: MakeRunner, database: Database, tmp_path: Path, kind: str) -> None:
    """A file of each kind ends in the same table and counts, over several chunks."""
    runner = make_runner()
    outcome = await runner.run(upsert({"uri": write(tmp_path, kind).as_uri()}))
    assert outcome == Succeeded(COUNTS)
    assert await table(database) == {f"S{n}": (f"item {n}", n, Decimal(f"{n}.50")) for n in range(25)}
    record = await runner.ledger.read("u")
    assert (record.done, record.total, record.counters) == (25, 25, COUNTS)


async def test_the_same_again_changes_nothing(make_runner: MakeRunner) -> None:
    """Rows that are there already are unchanged; one that differs is updated."""
    runner = make_runner()
    assert counts(await runner.run(upsert(listed(("A", "nut", 1, "1.00"), ("B", "bolt", 2, "2.00"))))) == {
        "read": 2,
        "inserted": 2,
    }
    again = upsert(listed(("A", "nut", 1, "1.0"), ("B", "bolt", 3, "2.00"), ("C", "cog", 1, 5)), "v")
    assert counts(await runner.run(again)) == {"read": 3, "inserted": 1, "updated": 1, "unchanged": 1}


async def test_the_last_of_a_repeated_key_wins(make_runner: MakeRunner, database: Database) -> None:
    """Of rows with one key in a chunk the last is stored, and the others are counted as duplicates."""
    outcome = await make_runner().run(upsert(listed(("A", "x", 1, 1), ("A", "y", 2, 2), ("A", "z", 3, 3))))
    assert counts(outcome) == {"read": 3, "inserted": 1, "duplicates": 2}
    assert (await table(database))["A"] == ("z", 3, Decimal(3))


async def test_refused_rows_are_kept_with_line_and_reason(
    make_runner: MakeRunner, database: Database, tmp_path: Path
) -> None:
    """Rows that do not fit go to the quarantine with their line, reason and contents; the others are stored."""
    path = tmp_path / "mixed.csv"
    path.write_text(HEADER + LINES[0] + "S1,item,many,1.00,\n" + "S2,short,1\n" + "S3,dear,1,1.005,\n" + LINES[4])
    assert counts(await make_runner().run(upsert({"uri": path.as_uri()}))) == {
        "read": 5,
        "inserted": 2,
        "quarantined": 3,
    }
    refused = await quarantined(database)
    assert [row.position for row in refused] == [3, 4, 5]
    assert all(name in row.reason for name, row in zip(("quantity", "fields", "price"), refused, strict=True))
    assert refused[0].payload["quantity"] == "many"


async def test_on_invalid_fail_keeps_nothing_of_the_chunk(make_runner: MakeRunner, database: Database) -> None:
    """With on_invalid="fail" the run fails with line and reason, and its chunk leaves nothing."""
    rows = listed(("A", "x", 1, 1), ("B", "y", "many", 2))
    said = message(await make_runner().run(upsert(rows, on_invalid="fail")))
    assert "line 2" in said
    assert "quantity" in said
    assert await table(database) == {}


async def test_another_unique_key_and_fewer_columns(make_runner: MakeRunner, database: Database) -> None:
    """Rows can be told apart by any unique constraint, and `update` limits what an existing row takes."""
    runner = make_runner()
    row = {"sku": "A", "name": "nut", "quantity": 1, "price": "1", "shelf": 1, "slot": 2}
    assert counts(await runner.run(upsert({"rows": [row]}))) == {"read": 1, "inserted": 1}
    other = {**row, "sku": "ignored", "name": "renamed", "quantity": 9}
    changed = upsert({"rows": [other]}, "v", key=["slot", "shelf"], update=["name"])
    assert counts(await runner.run(changed)) == {"read": 1, "updated": 1}
    assert await table(database) == {"A": ("renamed", 1, Decimal(1))}


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"key": ["name"]}, "(shelf, slot)"),
        ({"key": ["nmae"]}, "Did you mean 'name'"),
        ({"update": ["shelf"]}, "does not carry"),
        ({"table": "itme"}, "Did you mean 'item'"),
        ({"on_invalid": "ignore"}, "on_invalid"),
        ({"sauce": 1}, "Did you mean 'source'"),
        ({"source": {"rows": [{"sku": "A", "colour": "red"}]}}, "no column 'colour'"),
        ({"source": {"uri": "file:///etc/hostname", "format": "csv"}}, "WORKER_DATA_DIRS"),
        ({"source": {}}, "rows, uri or table"),
    ],
)
async def test_bad_parameters_fail_once_with_one_clear_line(
    make_runner: MakeRunner, database: Database, params: dict[str, object], said: str
) -> None:
    """What cannot be done as asked fails at once, naming what is wrong and what would work; nothing is written."""
    delivery = upsert(listed(("A", "x", 1, 1)))
    runner = make_runner()
    outcome = await runner.run(Delivery("u", "bulk_upsert", {**delivery.params, **params}, {}, "arq:queue", 1))
    assert said in message(outcome)
    assert "\n" not in message(outcome)
    assert (await runner.ledger.read("u")).attempts == 1
    assert await table(database) == {}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.csv", None, "missing.csv"),
        ("wrong.csv", b"sku,colour\nA,red\n", "no column 'colour'"),
        ("keyless.csv", b"name\nnut\n", "sku"),
        ("empty.csv", b"", "header"),
        ("twice.csv", b"sku,sku\nA,B\n", "sku"),
        ("what.bin", b"x", "format"),
    ],
)
async def test_bad_files_fail_once_with_one_clear_line(
    make_runner: MakeRunner, tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    """A file that cannot be read fails the run, saying what is wrong with it."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert said in message(await make_runner().run(upsert({"uri": path.as_uri()})))


async def test_a_truncated_gzip_keeps_what_was_committed(
    make_runner: MakeRunner, settings: Settings, database: Database, tmp_path: Path
) -> None:
    """A file that ends too soon fails the run as permanent; whole chunks before the cut stay and are reported."""
    path = tmp_path / "cut.csv.gz"
    body = HEADER + "".join(f"S{n},item {n * 7919 % 10007},{n},1.00,\n" for n in range(20_000))
    whole = gzip.compress(body.encode())
    path.write_bytes(whole[: len(whole) // 2])
    runner = make_runner(changed=in_chunks_of(settings, 2000))
    said = message(await runner.run(upsert({"uri": path.as_uri()})))
    record = await runner.ledger.read("u")
    stored = len(await table(database))
    assert "line" in said
    assert 0 < stored < 20_000
    assert (record.status, record.attempts, record.done, record.counters["inserted"]) == ("failed", 1, stored, stored)


async def test_a_changed_file_fails_the_run(make_runner: MakeRunner, tmp_path: Path) -> None:
    """A run that goes on finds that its file is another one, and fails rather than mix two."""
    path = tmp_path / "items.csv"
    path.write_text(TEXT)
    delivery = upsert({"uri": path.as_uri()})
    half = make_runner("half")
    await _run_one_chunk(half, delivery)
    path.write_text(TEXT + LINES[0])
    assert "changed since" in message(await make_runner().run(delivery))


async def _run_one_chunk(runner: Runner, delivery: Delivery) -> None:
    """Stop the worker at its first committed chunk."""
    object.__setattr__(runner, "emit", lambda event: runner.stop.set() if "Chunk" in type(event).__name__ else None)
    await runner.run(delivery)


values = st.integers(0, 3)
row = st.fixed_dictionaries(
    {
        "sku": st.sampled_from(["A", "B", "ä", "a", ""]) | st.none(),
        "name": st.text(max_size=5),
        "quantity": st.integers(-(2**33), 2**33)
        | st.integers(2**63 - 1, 2**64 - 1)
        | st.just("x")
        | st.none()
        | values,
        "price": st.decimals(-100, 100, places=3, allow_nan=False).map(str) | values,
    }
)


@pytest.fixture
async def runner(make_runner: MakeRunner, database: Database, backend: Backend) -> Runner:
    """One runner for all examples, on a table whose keys are told apart as Python does."""
    await rebuild(database, ITEM, types=exact_key(backend))
    runner: Runner = make_runner()
    return runner


@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(rows=st.lists(row, min_size=1, max_size=12), chunk=st.integers(1, 5))
async def test_any_rows_against_a_model(
    runner: Runner, database: Database, backend: Backend, rows: list[dict[str, object]], chunk: int
) -> None:
    """Whatever rows come, in chunks of any size, the table and the sums are those of a plain dictionary."""
    await execute(database, delete(ITEM))
    runner = replace(runner, settings=in_chunks_of(runner.settings, chunk))
    outcome = await runner.run(upsert({"rows": rows}, uuid4().hex))
    model, refused = model_of(rows, greatest_quantity(backend))
    assert await table(database) == model
    found = counts(outcome)
    assert (found.get("inserted", 0), found.get("quarantined", 0)) == (len(model), refused)


def model_of(rows: list[dict[str, object]], greatest: int) -> tuple[dict[str, tuple[str, int, Decimal]], int]:
    """What the table should be, and how many rows should be refused."""
    model: dict[str, tuple[str, int, Decimal]] = {}
    refused = 0
    for given_row in rows:
        sku, name, quantity = given_row["sku"], given_row["name"], given_row["quantity"]
        price = Decimal(str(given_row["price"]))
        fits = (
            isinstance(sku, str)
            and isinstance(name, str)
            and isinstance(quantity, int)
            and -greatest - 1 <= quantity <= greatest
            and price == round(price, 2)
            and "\x00" not in name
        )
        if fits:
            model[str(sku)] = (str(name), int(str(quantity)), price)
        else:
            refused += 1
    return model, refused
