"""Rows that the database will not let go: they stay, with the reason on record, and the others go."""

from typing import Final

import pytest

from tests.conftest import MakeRunner
from tests.support.deleting import (
    delete,
    delete_runner,
    error_of,
    execute,
    make_events,
    one_chunk_of,
    record_of,
    result_of,
    rows_of,
)
from worker.core.outcomes import Interrupted
from worker.core.settings import Settings
from worker.database.engine import Database

LEFT: Final = "SELECT id FROM event ORDER BY id"
VISITS: Final = "CREATE TABLE visit (id serial PRIMARY KEY, event_id bigint REFERENCES event %s)"
INDEX: Final = "CREATE INDEX ON visit (event_id)"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of ten rows, always."""
    return settings.model_copy(update={"chunk_start_rows": 10, "chunk_min_rows": 10, "chunk_max_rows": 10})


@pytest.fixture
async def _events(database: Database) -> None:
    await make_events(database)


pytestmark = pytest.mark.usefixtures("_events")


@pytest.mark.parametrize("archive", [None, "kept_event"])
@pytest.mark.parametrize(
    "action", ["ON DELETE RESTRICT", "ON DELETE NO ACTION", "ON DELETE NO ACTION DEFERRABLE INITIALLY DEFERRED"]
)
async def test_rows_that_others_refer_to_stay(
    make_runner: MakeRunner, database: Database, action: str, archive: str | None
) -> None:
    """A foreign key refuses its rows one by one, even one that would wait for the COMMIT to refuse the whole chunk."""
    await execute(database, VISITS % action, INDEX, "INSERT INTO visit (event_id) VALUES (7), (7), (8), (41)")
    runner = delete_runner(make_runner)
    outcome = await delete(runner, where={"id": {"le": 50}}, archive=archive)
    assert result_of(outcome) == {"deleted": 47, "archived": 47 if archive else 0}
    assert await rows_of(database, LEFT) == [(7,), (8,), (41,), *((n,) for n in range(51, 101))]
    assert (await record_of(runner)).counters == {"deleted": 47, "archived": 47 if archive else 0, "quarantined": 3}
    assert await rows_of(database, "SELECT count(*) FROM kept_event") == [(47 if archive else 0,)]


async def test_what_is_kept_of_a_refused_row(make_runner: MakeRunner, database: Database) -> None:
    """The quarantine has the row's columns, its key among them, the database's code and constraint, and its words."""
    await execute(database, VISITS % "", INDEX, "INSERT INTO visit (event_id) VALUES (7)")
    await execute(database, "UPDATE event SET created_at = '2024-05-06 07:08:09.000001Z' WHERE id = 7")
    await delete(delete_runner(make_runner), where={"id": {"le": 50}})
    (aside,) = await rows_of(database, "SELECT sqlstate, constraint_name, payload, reason FROM heavylift_quarantine")
    assert aside[:3] == (
        "23503",
        "visit_event_id_fkey",
        {
            "id": 7,
            "kind": "new",
            "created_at": {"$datetime": "2024-05-06T07:08:09.000001+00:00"},
            "amount": {"$decimal": "0.88"},
            "data": {"n": 7, "nested": [7, None]},
        },
    )
    assert "violates foreign key constraint" in str(aside[3])


async def test_an_interrupted_run_puts_each_row_aside_once(make_runner: MakeRunner, database: Database) -> None:
    """Refused rows are counted over all attempts, and none of them twice."""
    await execute(database, VISITS % "", INDEX, "INSERT INTO visit (event_id) VALUES (3), (33)")
    where = {"id": {"le": 50}}
    assert await delete(one_chunk_of(delete_runner(make_runner)), where=where) == Interrupted()
    runner = delete_runner(make_runner)
    assert result_of(await delete(runner, where=where)) == {"deleted": 48, "archived": 0}
    assert (await record_of(runner)).counters["quarantined"] == 2
    assert await rows_of(database, "SELECT payload->>'id' FROM heavylift_quarantine ORDER BY id") == [("3",), ("33",)]


async def test_a_run_that_is_mostly_refused_is_stopped(make_runner: MakeRunner, database: Database) -> None:
    """When more than half of at least fifty rows are refused, the run fails and what it had put aside can be read."""
    await execute(database, VISITS % "", INDEX, "INSERT INTO visit (event_id) SELECT n FROM generate_series(20, 80) n")
    runner = delete_runner(make_runner)
    assert "TooManyRefusedError: 31 of 50 rows" in error_of(await delete(runner, all_rows=True))
    assert await rows_of(database, "SELECT count(*) FROM heavylift_quarantine") == [(31,)]
    assert await rows_of(database, "SELECT count(*) FROM event") == [(81,)]


async def test_a_trigger_that_objects(make_runner: MakeRunner, database: Database) -> None:
    """What an author's own trigger raises refuses its row alone."""
    await execute(
        database,
        "CREATE FUNCTION object() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF OLD.id = 5 THEN RAISE EXCEPTION 'five stays'; END IF; RETURN OLD; END $$",
        "CREATE TRIGGER object BEFORE DELETE ON event FOR EACH ROW EXECUTE FUNCTION object()",
    )
    assert result_of(await delete(delete_runner(make_runner), all_rows=True)) == {"deleted": 99, "archived": 0}
    assert await rows_of(database, "SELECT reason FROM heavylift_quarantine") == [("five stays",)]
