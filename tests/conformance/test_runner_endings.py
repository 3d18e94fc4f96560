"""One attempt through the runner: each ending, what the record says of it, and what stays, on each database."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import pytest
from sqlalchemy import Connection, event

from tests.conftest import MakeRunner
from tests.support.chosen import Backend
from tests.support.own_session import execute, put, rows_of, value_of
from tests.support.shop_models import Tally
from worker.core.outcomes import Cancelled, Failed, Interrupted, Outcome, RetryAt, Snoozed, Status, Succeeded
from worker.core.settings import Settings
from worker.database.claims import Claimed, Delivery, NotClaimable
from worker.database.engine import Database
from worker.database.records import RunRecord
from worker.run.runner import Runner
from worker.run.stop_signal import StopSignal

TALLY = Tally.__table__  # type: ignore[attr-defined]  # SQLModel sets it


def scripted(ending: str, run_id: str = "r", enqueued_ms: int = 1) -> Delivery:
    """A delivery of the job that ends as it is told."""
    return Delivery(run_id, "scripted", {"ending": ending, "value": 5}, {}, "arq:queue", enqueued_ms)


async def tallies(database: Database) -> int:
    """How many rows the scripted jobs left."""
    return int(await value_of(database, "SELECT count(*) FROM tally"))


@pytest.mark.parametrize(
    ("ending", "outcome", "status", "attempts"),
    [
        ("return", Succeeded, Status.SUCCEEDED, 1),
        ("value_error", Failed, Status.FAILED, 1),
        ("retry", RetryAt, Status.WAITING, 1),
        ("snooze", Snoozed, Status.WAITING, 0),
        ("cancel", Cancelled, Status.CANCELLED, 0),
        ("connection", RetryAt, Status.WAITING, 1),
        ("commit", Failed, Status.FAILED, 1),
        ("bad_result", Failed, Status.FAILED, 1),
    ],
)
async def test_each_ending(
    make_runner: MakeRunner, database: Database, ending: str, outcome: type[Outcome], status: Status, attempts: int
) -> None:
    """An ending gives its outcome and status, counts as an attempt or not, and only success keeps rows."""
    runner = make_runner()
    found = await runner.run(scripted(ending))
    record = await runner.ledger.read("r")
    assert type(found) is outcome
    assert (record.status, record.attempts) == (status, attempts)
    assert await tallies(database) == (1 if ending == "return" else 0)
    assert (record.waiting_for is None) == (status not in {Status.WAITING, Status.CANCELLED})


async def test_a_failure_keeps_error_and_parameters(make_runner: MakeRunner) -> None:
    """A failed run's record has the original error with its traceback, and the parameters."""
    runner = make_runner()
    await runner.run(scripted("value_error"))
    record = await runner.ledger.read("r")
    assert record.error is not None
    assert (record.error.type, record.error.message) == ("ValueError", "scripted to fail")
    assert "scripted_jobs.py" in record.error.traceback
    assert record.params == {"ending": "value_error", "value": 5}


async def test_attempts_run_out(make_runner: MakeRunner) -> None:
    """The third failure of a job with max_attempts=3 is final, with the original error."""
    runner = make_runner()
    outcomes = [await runner.run(scripted("connection")) for _ in range(3)]
    assert [type(outcome) for outcome in outcomes] == [RetryAt, RetryAt, Failed]
    record = await runner.ledger.read("r")
    assert record.error is not None
    assert (record.attempts, record.error.type) == (3, "ConnectionResetError")


async def test_commit_on_the_session_says_what_to_use(make_runner: MakeRunner) -> None:
    """`ctx.session.commit()` is refused with the way that works."""
    runner = make_runner()
    outcome = await runner.run(scripted("commit"))
    assert isinstance(outcome, Failed)
    assert outcome.error.type == "TransactionMisuseError"
    assert "ctx.chunks" in outcome.error.message


async def test_a_finished_run_answers_without_running(make_runner: MakeRunner, database: Database) -> None:
    """A duplicate delivery of a finished run returns its stored result and does nothing."""
    runner = make_runner()
    first = await runner.run(scripted("return"))
    assert await runner.run(scripted("return")) == first == Succeeded(5)
    record = await runner.ledger.read("r")
    assert (record.attempts, record.fence, await tallies(database)) == (1, 1, 1)


async def test_a_later_use_of_a_finished_id_is_a_new_run(make_runner: MakeRunner) -> None:
    """A vanilla client that reuses an id gets a new run each time; the old ones stay under ~1 and ~2."""
    runner = make_runner()
    for enqueued_ms in (1, 2, 3):
        await runner.run(scripted("value_error", enqueued_ms=enqueued_ms))
    kept = [await runner.ledger.read(name) for name in ("r", "r~1", "r~2")]
    assert [record.status for record in kept] == [Status.FAILED] * 3
    assert [record.fence for record in kept] == [1, 1, 1]


async def test_ids_compare_byte_by_byte(make_runner: MakeRunner) -> None:
    """Ids that differ in case, or by a space at the end, are different runs."""
    runner = make_runner()
    claims = await runner.ledger.claim([scripted("return", name) for name in ("a", "A", "a ", "ä", "a\u0308")])
    assert len({claim.fence.run_id for claim in claims if isinstance(claim, Claimed)}) == 5


async def test_many_are_claimed_by_as_many_statements_as_one(make_runner: MakeRunner, backend: Backend) -> None:
    """Ten runs cost as many statements as one: on PostgreSQL one."""
    runner = make_runner()
    statements: list[str] = []

    def note(_c: Connection, _cur: object, statement: str, *_: object) -> None:
        statements.append(statement)

    # what a connection is told once is not counted
    await runner.ledger.claim([scripted("return", "first")])
    event.listen(runner.ledger.database.engine.sync_engine, "before_cursor_execute", note)
    await runner.ledger.claim([scripted("return", "alone")])
    alone = len(statements)
    claims = await runner.ledger.claim([scripted("return", f"r{number}") for number in range(10)])
    assert all(isinstance(claim, Claimed) for claim in claims)
    assert len(statements) == 2 * alone
    assert alone == 1 or backend != "postgresql"


ENDING: Final[Mapping[Backend, Sequence[str]]] = {
    "postgresql": ["WITH"],
    "sqlite": ["UPDATE", "UPDATE", "INSERT"],
    "mariadb": ["UPDATE", "UPDATE", "INSERT"],
}
"""The first words of what ends a run that succeeded."""


async def test_a_single_transaction_job_gains_little(make_runner: MakeRunner, backend: Backend) -> None:
    """A job that inserts one row costs its insert and one commit, and on PostgreSQL one statement for the ledger."""
    runner = make_runner()
    (claim,) = await runner.ledger.claim([scripted("return")])
    assert isinstance(claim, Claimed)
    done: list[str] = []
    engine = runner.ledger.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", lambda _c, _u, statement, *_: done.append(statement.split()[0]))
    event.listen(engine, "commit", lambda _c: done.append("COMMIT"))
    await runner.attempt(claim)
    assert [word for word in done if word != "BEGIN"] == ["INSERT", *ENDING[backend], "COMMIT"]


async def test_a_paused_run_is_not_claimed(make_runner: MakeRunner, database: Database) -> None:
    """A delivery of a paused run finds it paused, whoever delivers it."""
    runner = make_runner()
    await runner.ledger.claim([scripted("return")])
    await execute(database, "UPDATE heavylift_runs SET status = 'paused'")
    (found,) = await runner.ledger.claim([scripted("return")])
    assert isinstance(found, NotClaimable)
    assert found.status is Status.PAUSED


async def test_a_wish_to_cancel_is_obeyed_at_the_next_chunk(make_runner: MakeRunner, database: Database) -> None:
    """A cancel asked for in mid-run ends it after the chunk under way, and what it committed stays."""
    await put(database, TALLY, [{"id": n, "value": 0} for n in range(1, 41)])
    runner = make_runner(changed=runner_settings(make_runner()))
    running = asyncio.create_task(runner.run(Delivery("r", "add_one", {"pause_s": 0.05}, {}, "arq:queue", 1)))
    while (await read_or_none(runner)) is None:
        await asyncio.sleep(0.01)
    await runner.ledger.ask_for("r", "cancel")
    assert isinstance(await running, Cancelled)
    record = await runner.ledger.read("r")
    assert record.status is Status.CANCELLED
    assert 0 < record.done < 40


async def test_a_cancellation_that_was_swallowed_ends_it_at_the_next_chunk(
    make_runner: MakeRunner, database: Database
) -> None:
    """A run whose job, or a library below it, lets a cancellation through to nobody is interrupted after its chunk."""
    await put(database, TALLY, [{"id": n, "value": 0} for n in range(1, 401)])
    runner = make_runner(changed=runner_settings(make_runner()))
    running = asyncio.create_task(runner.run(Delivery("r", "add_one_deaf", {}, {}, "arq:queue", 1)))
    while (record := await read_or_none(runner)) is None or not record.done:
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
    record = await runner.ledger.read("r")
    assert record.status is Status.QUEUED
    assert 0 < record.done < 400


def runner_settings(runner: Runner) -> Settings:
    """The runner's settings with chunks of five rows."""
    return runner.settings.model_copy(update={"chunk_start_rows": 5, "chunk_min_rows": 5, "chunk_max_rows": 5})


async def read_or_none(runner: Runner) -> RunRecord | None:
    """The run's record once it has done something."""
    claimed = await value_of(runner.ledger.database, "SELECT count(*) FROM heavylift_progress")
    return await runner.ledger.read("r") if claimed else None


async def test_a_stopping_worker_starts_nothing(make_runner: MakeRunner, database: Database) -> None:
    """A run delivered to a worker that is stopping goes back at once, as an interruption."""
    stop = StopSignal()
    stop.set()
    runner = make_runner(stop=stop)
    assert await runner.run(scripted("return")) == Interrupted()
    record = await runner.ledger.read("r")
    assert (record.status, record.interruptions, record.attempts) == (Status.QUEUED, 1, 0)
    assert await tallies(database) == 0


LOCK_TIMEOUT: Final[Mapping[Backend, str]] = {
    "postgresql": "SELECT current_setting('lock_timeout'), '0'",
    "mariadb": "SELECT @@session.innodb_lock_wait_timeout, @@global.innodb_lock_wait_timeout",
}
"""A session's, and the server's own."""


@pytest.mark.only_on("postgresql", "mariadb", why="SQLite has no server that could be asked for a session's limits")
async def test_limits_end_with_the_transaction(make_runner: MakeRunner, backend: Backend) -> None:
    """Lock and statement timeouts are the transaction's own: a pooled connection comes back without them."""
    runner = make_runner()
    await runner.run(scripted("return"))
    ((found, servers),) = await rows_of(runner.ledger.database, LOCK_TIMEOUT[backend])
    assert found == servers
