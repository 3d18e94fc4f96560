"""Rows that the database will not let go: they stay, with the reason on record, and the others go."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, MetaData, Table, select, update

from tests.conftest import MakeRunner
from tests.support.chosen import Backend
from tests.support.deleting import (
    EVENT,
    delete,
    delete_runner,
    error_of,
    make_events,
    one_chunk_of,
    record_of,
    result_of,
)
from tests.support.own_session import execute, put, rows_of, value_of
from tests.support.refused_as import refused_by
from tests.support.row_triggers import object_to
from worker.core.outcomes import Interrupted
from worker.core.settings import Settings
from worker.database.engine import Database
from worker.database.tables import QUARANTINE

LEFT: Final = "SELECT id FROM event ORDER BY id"
DEFERRED: Final = {"deferrable": True, "initially": "DEFERRED"}
"""How a foreign key waits for the COMMIT."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of ten rows, always."""
    return settings.model_copy(update={"chunk_start_rows": 10, "chunk_min_rows": 10, "chunk_max_rows": 10})


@pytest.fixture
async def _events(database: Database) -> None:
    await make_events(database)


pytestmark = pytest.mark.usefixtures("_events")


async def make_visits(database: Database, event_ids: Iterable[int], **reference: Any) -> None:
    """Make a table whose rows refer to events, by a foreign key that has an index."""
    referring = ForeignKey(EVENT.c.id, name="visit_event_id_fkey", **reference)
    columns = (Column("id", Integer, primary_key=True), Column("event_id", BigInteger, referring))
    visit = Table("visit", MetaData(), *columns, Index("visit_event", "event_id"))
    async with database.engine.begin() as connection:
        await connection.run_sync(visit.create)
    await put(database, visit, [{"event_id": event_id} for event_id in event_ids])


@pytest.mark.parametrize("archive", [None, "kept_event"])
@pytest.mark.parametrize("action", ["RESTRICT", "NO ACTION"])
async def test_rows_that_others_refer_to_stay(
    make_runner: MakeRunner, database: Database, action: str, archive: str | None
) -> None:
    """A foreign key refuses its rows one by one."""
    await make_visits(database, (7, 7, 8, 41), ondelete=action)
    await assert_three_stay(make_runner, database, archive)


@pytest.mark.only_on("postgresql", why="SQLite cannot be asked to check before the COMMIT, and MariaDB never waits")
@pytest.mark.parametrize("archive", [None, "kept_event"])
async def test_rows_that_others_refer_to_stay_though_it_is_checked_late(
    make_runner: MakeRunner, database: Database, archive: str | None
) -> None:
    """A foreign key that would wait for the COMMIT to refuse the whole chunk refuses its rows one by one, too."""
    await make_visits(database, (7, 7, 8, 41), **DEFERRED)
    await assert_three_stay(make_runner, database, archive)


@pytest.mark.only_on("sqlite", why="only SQLite has foreign keys that are checked at the COMMIT and not before")
async def test_a_foreign_key_that_is_checked_at_the_commit_alone(make_runner: MakeRunner, database: Database) -> None:
    """It refuses a chunk as a whole: the run fails with nothing of that chunk done, and what went before stays done."""
    await make_visits(database, [17], **DEFERRED)
    said = error_of(await delete(delete_runner(make_runner), all_rows=True))
    assert said == "IntegrityError: FOREIGN KEY constraint failed"
    assert await rows_of(database, LEFT) == [(n,) for n in range(11, 101)]


async def assert_three_stay(make_runner: MakeRunner, database: Database, archive: str | None) -> None:
    """A delete of fifty rows leaves those that are referred to, and puts them aside."""
    runner = delete_runner(make_runner)
    outcome = await delete(runner, where={"id": {"le": 50}}, archive=archive)
    assert result_of(outcome) == {"deleted": 47, "archived": 47 if archive else 0}
    assert await rows_of(database, LEFT) == [(7,), (8,), (41,), *((n,) for n in range(51, 101))]
    assert (await record_of(runner)).counters == {"deleted": 47, "archived": 47 if archive else 0, "quarantined": 3}
    assert await value_of(database, "SELECT count(*) FROM kept_event") == (47 if archive else 0)


async def test_what_is_kept_of_a_refused_row(make_runner: MakeRunner, database: Database, backend: Backend) -> None:
    """The quarantine has the row's columns, its key among them, the database's code and constraint, and its words."""
    await make_visits(database, [7])
    moment = datetime(2024, 5, 6, 7, 8, 9, 1, tzinfo=UTC)
    await execute(database, update(EVENT).where(EVENT.c.id == 7).values(created_at=moment))
    await delete(delete_runner(make_runner), where={"id": {"le": 50}})
    aside = QUARANTINE.c
    ((*why, payload, reason),) = await rows_of(
        database, select(aside.sqlstate, aside.constraint_name, aside.payload, aside.reason)
    )
    assert tuple(why) == refused_by(backend, "referred to", "visit_event_id_fkey")
    assert payload == {
        "id": 7,
        "kind": "new",
        # databases without time zones hold it in UTC
        "created_at": {"$datetime": f"2024-05-06T07:08:09.000001{'+00:00' if backend == 'postgresql' else ''}"},
        "amount": {"$decimal": "0.88"},
        "data": {"n": 7, "nested": [7, None]},
    }
    assert "foreign key constraint" in reason.lower()


async def test_an_interrupted_run_puts_each_row_aside_once(make_runner: MakeRunner, database: Database) -> None:
    """Refused rows are counted over all attempts, and none of them twice."""
    await make_visits(database, (3, 33))
    where = {"id": {"le": 50}}
    assert await delete(one_chunk_of(delete_runner(make_runner)), where=where) == Interrupted()
    runner = delete_runner(make_runner)
    assert result_of(await delete(runner, where=where)) == {"deleted": 48, "archived": 0}
    assert (await record_of(runner)).counters["quarantined"] == 2
    refused = await rows_of(database, select(QUARANTINE.c.payload).order_by(QUARANTINE.c.id))
    assert [payload["id"] for (payload,) in refused] == [3, 33]


async def test_a_run_that_is_mostly_refused_is_stopped(make_runner: MakeRunner, database: Database) -> None:
    """When more than half of at least fifty rows are refused, the run fails and what it had put aside can be read."""
    await make_visits(database, range(20, 81))
    runner = delete_runner(make_runner)
    assert "TooManyRefusedError: 31 of 50 rows" in error_of(await delete(runner, all_rows=True))
    assert await value_of(database, "SELECT count(*) FROM heavylift_quarantine") == 31
    assert await value_of(database, "SELECT count(*) FROM event") == 81


async def test_a_trigger_that_objects(make_runner: MakeRunner, database: Database, backend: Backend) -> None:
    """What an author's own trigger raises refuses its row alone."""
    await execute(database, *object_to(backend, "event", "DELETE", "OLD.id = 5", "five stays"))
    assert result_of(await delete(delete_runner(make_runner), all_rows=True)) == {"deleted": 99, "archived": 0}
    assert await rows_of(database, "SELECT reason FROM heavylift_quarantine") == [("five stays",)]
