"""`chunked_delete` on each database: exactly the rows that are meant, counted, whatever interrupts it."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from sqlalchemy import update

from tests.conftest import MakeRunner
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
from tests.support.own_session import execute, put, rows_of
from worker.core.outcomes import Interrupted, Outcome, Succeeded
from worker.core.settings import Settings
from worker.database.engine import Database
from worker.run.runner import Runner

LEFT: Final = "SELECT id FROM event ORDER BY id"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of ten rows, always."""
    return settings.model_copy(update={"chunk_start_rows": 10, "chunk_min_rows": 10, "chunk_max_rows": 10})


@pytest.fixture
async def _events(database: Database) -> None:
    await make_events(database)


pytestmark = pytest.mark.usefixtures("_events")

WHERES: Final[dict[str, tuple[dict[str, object], str]]] = {
    "equal": ({"kind": {"eq": "old"}}, "kind = 'old'"),
    "every_other_kind": ({"kind": {"ne": "old"}}, "kind <> 'old'"),
    "range_of_the_key": ({"id": {"between": [17, 63]}}, "id BETWEEN 17 AND 63"),
    "some_of_the_key": ({"id": {"in": [1, 50, 51, 100, 1000]}}, "id IN (1, 50, 51, 100)"),
    "decimals": ({"amount": {"lt": "2.5"}}, "amount < 2.5"),
    "either": ({"or": [{"id": {"le": 3}}, {"kind": {"eq": "old"}}]}, "id <= 3 OR kind = 'old'"),
    "not_null": ({"created_at": {"is_null": False}}, "created_at IS NOT NULL"),
    "nothing": ({"id": {"gt": 1000}}, "id > 1000"),
}


@pytest.mark.parametrize("kind", WHERES)
async def test_it_deletes_what_plain_sql_would(make_runner: MakeRunner, database: Database, kind: str) -> None:
    """The rows that are left, and the counts, are those of one DELETE."""
    where, plain = WHERES[kind]
    before = await rows_of(database, LEFT)
    expected = await rows_of(database, f"SELECT id FROM event WHERE NOT coalesce({plain}, false) ORDER BY id")
    runner = delete_runner(make_runner)
    outcome = await delete(runner, where=where)
    gone = len(before) - len(expected)
    assert result_of(outcome) == {"deleted": gone, "archived": 0}
    assert await rows_of(database, LEFT) == expected
    assert (await record_of(runner)).counters == {"deleted": gone, "archived": 0, "quarantined": 0}


async def test_ages_are_frozen_at_the_runs_start(make_runner: MakeRunner, database: Database) -> None:
    """A row that becomes old enough between two attempts stays, and so does the cut-off of the first attempt."""
    where = {"created_at": {"older_than": "50d12h"}}
    assert await delete(one_chunk_of(delete_runner(make_runner)), where=where) == Interrupted()
    almost = datetime.now(UTC) - timedelta(days=50, hours=11, minutes=59, seconds=59)
    await execute(database, update(EVENT).where(EVENT.c.id == 40).values(created_at=almost))
    started_at = await rows_of(database, "SELECT started_at FROM heavylift_runs")
    assert result_of(await delete(delete_runner(make_runner), where=where)) == {"deleted": 50, "archived": 0}
    assert await rows_of(database, "SELECT started_at FROM heavylift_runs") == started_at
    assert await rows_of(database, LEFT) == [(n,) for n in range(1, 51)]


async def test_all_rows_need_the_option(make_runner: MakeRunner, database: Database) -> None:
    """A delete without a condition is refused unless the run's options allow all rows."""
    assert "run option" in error_of(await delete(delete_runner(make_runner)))
    assert "run option" in error_of(await delete(delete_runner(make_runner), where={}))
    assert len(await rows_of(database, LEFT)) == 100


@pytest.mark.parametrize("where", [None, {}])
async def test_all_rows_where_that_is_allowed(
    make_runner: MakeRunner, database: Database, where: dict[str, object] | None
) -> None:
    """With the option `all`, every row that was there when the run started goes."""
    outcome = await delete(delete_runner(make_runner), all_rows=True, where=where)
    assert result_of(outcome) == {"deleted": 100, "archived": 0}
    assert await rows_of(database, LEFT) == []


async def test_an_interruption_after_each_chunk(make_runner: MakeRunner, database: Database) -> None:
    """Ten attempts of a chunk each delete and count what one attempt would have."""
    outcome = None
    for _ in range(12):
        outcome = await delete(one_chunk_of(delete_runner(make_runner)), where={"kind": {"eq": "old"}})
        if isinstance(outcome, Succeeded):
            break
        assert outcome == Interrupted()
    assert outcome == Succeeded({"deleted": 33, "archived": 0})
    assert await rows_of(database, LEFT) == [(n,) for n in range(1, 101) if n % 3]


@pytest.mark.parametrize("archive", [None, "kept_event"])
async def test_a_cancellation_at_each_statement(
    make_runner: MakeRunner, database: Database, archive: str | None
) -> None:
    """Wherever a task is cancelled, its chunk took effect as a whole or not at all, and the counts are right."""
    where: dict[str, object] = {"id": {"le": 12}}
    expected = Succeeded({"deleted": 12, "archived": 12 if archive else 0})
    survived: Outcome | None = None
    at = 0
    while survived is None:
        at += 1
        await refill(database)
        survived = await cancelled_at(delete_runner(make_runner), at, where=where, archive=archive)
        assert (survived or await delete(delete_runner(make_runner), where=where, archive=archive)) == expected
        assert await rows_of(database, LEFT) == [(n,) for n in range(13, 101)]
        kept = await rows_of(database, "SELECT id FROM kept_event ORDER BY id")
        assert kept == ([(n,) for n in range(1, 13)] if archive else [])
    assert at > 20


@pytest.mark.parametrize(("where", "each"), [({"id": {"gt": 0}}, 6), ({"kind": {"eq": "rare"}}, 3)])
async def test_how_many_statements_a_chunk_takes(
    make_runner: MakeRunner, database: Database, where: dict[str, object], each: int
) -> None:
    """A chunk's limits, edge, locks, savepoint, delete, release and progress; half of that where no row is meant."""
    sent: dict[int, int] = {}
    for count in (30, 100):
        await refill(database)
        await execute(database, f"DELETE FROM event WHERE id > {count}")
        runner = delete_runner(make_runner)
        statements: list[str] = []

        def tell(statement: str, _: object, told: list[str] = statements) -> None:
            # how often the governor looks at the server is a matter of time
            if "pg_stat" not in statement:
                told.append(statement)

        async with before_statements(runner, tell):
            result_of(await delete(runner, where=where))
        sent[count] = len(statements)
    assert sent[100] - sent[30] == 7 * each


async def refill(database: Database) -> None:
    """Put all events back, and forget every run."""
    await execute(database, "DELETE FROM event", "DELETE FROM kept_event", "DELETE FROM heavylift_runs")
    await put(database, EVENT, [{"id": n} for n in range(1, 101)])


async def cancelled_at(runner: Runner, at: int, where: dict[str, object], archive: str | None) -> Outcome | None:
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
            return await delete(runner, where=where, archive=archive)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            # the test goes on in this very task, which is told to end no more
            task.uncancel()
            return None
