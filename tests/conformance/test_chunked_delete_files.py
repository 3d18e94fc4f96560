"""`chunked_delete` into a file: what is gone from the table is in the file, once and whole, however often it stops."""

import asyncio
import csv
import gzip
import json
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import select
from sqlalchemy.util import await_only

from tests.conftest import MakeRunner
from tests.support.chosen import Backend
from tests.support.deleting import (
    EVENT,
    before_statements,
    delete,
    delete_runner,
    error_of,
    make_events,
    one_chunk_of,
    record_of,
    result_of,
)
from tests.support.impatient import is_let
from tests.support.own_session import execute, put, rows_of, value_of
from worker.core.outcomes import Interrupted, Outcome, Succeeded
from worker.core.settings import Settings
from worker.database.engine import Database
from worker.run.runner import Runner

OLD: Final[dict[str, object]] = {"kind": {"eq": "old"}}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder that files are written under."""
    return tmp_path / "out"


@pytest.fixture
def settings(settings: Settings, out: Path) -> Settings:
    """Settings with chunks of ten rows, always, and a folder for files."""
    out.mkdir()
    fixed = {"chunk_start_rows": 10, "chunk_min_rows": 10, "chunk_max_rows": 10}
    return settings.model_copy(update={**fixed, "output_dirs": (out,)})


@pytest.fixture
async def _events(database: Database) -> None:
    await make_events(database)


pytestmark = pytest.mark.usefixtures("_events")


def lines(path: Path) -> list[dict[str, object]]:
    """The rows of a file of NDJSON, packed or not."""
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    return [json.loads(line) for line in text.splitlines()]


def left_over(out: Path) -> list[str]:
    """What is in the folder."""
    return sorted(path.name for path in out.iterdir())


@pytest.mark.parametrize(
    "archive", ["old.ndjson", "old.ndjson.gz", {"uri": "old.ndjson"}, {"uri": "old.ndjson", "format": "ndjson"}]
)
async def test_every_deleted_row_is_in_the_file(
    make_runner: MakeRunner, database: Database, out: Path, archive: str | dict[str, str]
) -> None:
    """The file has each deleted row once, whole and in key order, and nothing else is left behind."""
    before = await rows_of(database, select(EVENT).where(EVENT.c.kind == "old").order_by(EVENT.c.id))
    outcome = await delete(delete_runner(make_runner), where=OLD, archive=archive)
    assert result_of(outcome) == {"deleted": 33, "archived": 33}
    name = archive if isinstance(archive, str) else archive["uri"]
    assert left_over(out) == [name]
    found = lines(out / name)
    assert [row["id"] for row in found] == [row[0] for row in before]
    assert [row["amount"] for row in found] == [str(row[3]) for row in before]
    assert [row["data"] for row in found] == [row[4] for row in before]
    assert await value_of(database, "SELECT count(*) FROM event WHERE kind = 'old'") == 0


async def test_a_csv(make_runner: MakeRunner, out: Path) -> None:
    """A file whose name says so is a CSV with a header."""
    await delete(delete_runner(make_runner), where={"id": {"le": 2}}, archive="old.csv")
    header, first, second = csv.reader((out / "old.csv").read_text().splitlines())
    assert header == ["id", "kind", "created_at", "amount", "data"]
    assert first[:2] == ["1", "new"]
    assert second[3] == "0.25"
    assert json.loads(second[4]) == {"n": 2, "nested": [2, None]}


async def test_no_row_makes_an_empty_file(make_runner: MakeRunner, out: Path) -> None:
    """Where no row is meant, the file is there and empty: nobody need wonder whether it is still to come."""
    outcome = await delete(delete_runner(make_runner), where={"id": {"gt": 1000}}, archive="old.ndjson")
    assert result_of(outcome) == {"deleted": 0, "archived": 0}
    assert lines(out / "old.ndjson") == []


@pytest.mark.parametrize("name", ["old.ndjson", "old.ndjson.gz"])
async def test_an_interruption_after_each_chunk(
    make_runner: MakeRunner, database: Database, out: Path, name: str
) -> None:
    """However many attempts write it, the file has each row once, in order; stopped while it is joined, too."""
    outcome: Outcome = Interrupted()
    attempts = 0
    while outcome == Interrupted():
        attempts += 1
        outcome = await delete(one_chunk_of(delete_runner(make_runner)), where=OLD, archive=name)
    # ten chunks of rows, and one each before the joining, after it, and after the publishing
    assert attempts == 14
    assert result_of(outcome) == {"deleted": 33, "archived": 33}
    assert [row["id"] for row in lines(out / name)] == list(range(3, 100, 3))
    assert left_over(out) == [name]
    assert await value_of(database, "SELECT count(*) FROM event") == 67


async def test_a_cancellation_at_each_statement(make_runner: MakeRunner, database: Database, out: Path) -> None:
    """Wherever a task is cancelled, the file that comes of it in the end is right."""
    survived: Outcome | None = None
    at = 0
    while survived is None:
        at += 1
        await execute(database, "DELETE FROM event", "DELETE FROM heavylift_runs")
        await put(database, EVENT, [{"id": n} for n in range(1, 101)])
        survived = await cancelled_at(delete_runner(make_runner), at)
        resumed = survived or await delete(delete_runner(make_runner), where={"id": {"le": 12}}, archive="old.ndjson")
        assert resumed == Succeeded({"deleted": 12, "archived": 12})
        assert await value_of(database, "SELECT min(id) FROM event") == 13
        assert [row["id"] for row in lines(out / "old.ndjson")] == list(range(1, 13))
        assert left_over(out) == ["old.ndjson"]
        (out / "old.ndjson").unlink()
    assert at > 20


async def cancelled_at(runner: Runner, at: int) -> Outcome | None:
    """Run a delete and cancel its task at a statement of its own; the outcome where it had ended before."""
    sent = 0

    def tell(statement: str, _: object) -> None:
        nonlocal sent
        if "heavylift_runs" not in statement:
            sent += 1
            task = asyncio.current_task()
            if sent == at and task is not None:
                task.cancel()

    async with before_statements(runner, tell):
        try:
            return await delete(runner, where={"id": {"le": 12}}, archive="old.ndjson")
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            # the test goes on in this very task, which is told to end no more
            task.uncancel()
            return None


async def test_rows_that_stay_are_not_in_the_file(make_runner: MakeRunner, database: Database, out: Path) -> None:
    """A row that the database refuses to delete is put aside, and the file has the others only."""
    await execute(
        database,
        "CREATE TABLE visit (event_id bigint, FOREIGN KEY (event_id) REFERENCES event (id))",
        "CREATE INDEX visit_event ON visit (event_id)",
        "INSERT INTO visit VALUES (6), (51)",
    )
    runner = delete_runner(make_runner)
    outcome = await delete(runner, where=OLD, archive="old.ndjson")
    assert result_of(outcome) == {"deleted": 31, "archived": 31}
    assert [row["id"] for row in lines(out / "old.ndjson")] == [n for n in range(3, 100, 3) if n not in {6, 51}]
    assert (await record_of(runner)).counters["quarantined"] == 2


async def test_a_row_that_begins_to_match_after_the_lock(
    make_runner: MakeRunner, database: Database, backend: Backend, out: Path
) -> None:
    """What another session adds between lock and delete is in the table or in the file, never in neither."""
    await execute(database, "DELETE FROM event WHERE id = 6")
    runner = delete_runner(make_runner)
    let: list[bool] = []

    def tell(statement: str, _: object) -> None:
        if "DELETE FROM event" in statement and not let:
            let.append(await_only(is_let(database, backend, "INSERT INTO event (id, kind) VALUES (6, 'old')")))

    async with before_statements(runner, tell):
        outcome = await delete(runner, where=OLD, archive="old.ndjson")
    left = [int(str(row[0])) for row in await rows_of(database, "SELECT id FROM event")]
    kept = [int(str(row["id"])) for row in lines(out / "old.ndjson")]
    assert result_of(outcome) == {"deleted": len(kept), "archived": len(kept)}
    # SQLite has one writer: nobody adds anything meanwhile
    assert let == [backend != "sqlite"]
    assert sorted([*left, *kept]) == [n for n in range(1, 101) if n != 6 or let == [True]]


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        ("old", "neither a registered table (event, kept_event) nor a file"),
        ("old.parquet", "neither a registered table (event, kept_event) nor a file"),
        ("../old.csv", "WORKER_OUTPUT_DIRS"),
        ("there.csv", "there.csv"),
    ],
)
async def test_a_file_that_cannot_be_made(
    make_runner: MakeRunner, database: Database, out: Path, archive: str, said: str
) -> None:
    """What cannot become a file is refused before a row is deleted."""
    (out / "there.csv").write_text("mine")
    assert said in error_of(await delete(delete_runner(make_runner), where=OLD, archive=archive))
    assert await value_of(database, "SELECT count(*) FROM event") == 100
    assert (out / "there.csv").read_text() == "mine"


async def test_a_column_that_the_model_lacks(make_runner: MakeRunner, database: Database) -> None:
    """A column that only the database knows would be lost, and so nothing is deleted."""
    await execute(database, "ALTER TABLE event ADD secret int")
    said = error_of(await delete(delete_runner(make_runner), where=OLD, archive="old.ndjson"))
    assert "lacks columns that its table has, so their values would be lost: secret" in said
