"""Runs that the queue delivered and no worker could begin: their job is unknown here, or their payload unreadable.

Owns how the ledger shows them until some worker can. Refuses to end any, but for those whose payload is gone before
anybody read it: nothing is left of them that could run.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from sqlalchemy import Connection, and_, literal, select, update

from worker.core.outcomes import ErrorRecord, Status
from worker.core.settings import Settings
from worker.database import pages
from worker.database.claims import UNREADABLE, NotClaimable, PutAside
from worker.database.column_types import utc_now
from worker.database.engine import Database
from worker.database.reuse import keep_finished_run
from worker.database.session import carry_out, fetch
from worker.database.tables import RUNS

UNKNOWN_JOB: Final = "is not known to this worker"
"""What is said of a run whose job is unknown, after the job's name; by it such runs are found again."""

PAGE_ROWS: Final = 500
"""Runs of a page."""


async def put_aside(
    database: Database, settings: Settings, asides: Sequence[PutAside], due_at: datetime
) -> list[NotClaimable]:
    """Show runs as waiting that cannot begin on this worker; those that the ledger did not know are made.

    Args:
        database: the ledger's.
        settings: whose timeouts hold.
        asides: one for each run. Their ids fit the ledger, as those of claims must.
        due_at: when they are tried again. Said later than that, it is not written over what is known of a run.

    Returns:
        Those that are not shown as waiting, because they are paused, or finished already: a delivery that is newer
        than a finished run of its id is a new run, and the old one is kept under `<id>~1`; one that nobody could read
        does not say how old it is.
    """
    found = await _put_aside(database, settings, asides, due_at)
    newer = {aside.delivery.run_id: aside for aside in asides if aside.delivery.job != UNREADABLE}
    again = [
        newer[run.run_id]
        for run in found
        if run.status.finished and run.run_id in newer and newer[run.run_id].delivery.enqueued_ms > run.enqueued_ms
    ]
    if not again:
        return found
    for aside in again:
        await keep_finished_run(database, aside.delivery.run_id)
    reused = {aside.delivery.run_id for aside in again}
    kept = [run for run in found if run.run_id not in reused]
    return kept + await _put_aside(database, settings, again, due_at)


async def _put_aside(
    database: Database, settings: Settings, asides: Sequence[PutAside], due_at: datetime
) -> list[NotClaimable]:
    shown = await carry_out(database, settings, partial(database.dialect.put_aside, asides=asides, due_at=due_at))
    others = [aside.delivery.run_id for aside in asides if aside.delivery.run_id not in shown]
    if not others:
        return []
    columns = (RUNS.c.id, RUNS.c.status, RUNS.c.enqueued_ms, RUNS.c.result, RUNS.c.error)
    kept = [status.value for status in Status if status.finished or status is Status.PAUSED]
    rows = await fetch(database, settings, select(*columns).where(RUNS.c.id.in_(others), RUNS.c.status.in_(kept)))
    return [NotClaimable(row.id, Status(row.status), row.enqueued_ms, row.result, row.error) for row in rows]


async def runs_of_unknown_jobs(
    database: Database, settings: Settings, queue: str, jobs: Collection[str]
) -> AsyncIterator[list[str]]:
    """The ids of runs that wait for a worker which knows their job, oldest first, a page at a time.

    Args:
        database: the ledger's.
        settings: whose timeouts hold.
        queue: only those of this queue.
        jobs: only those of these jobs.
    """
    waiting = and_(
        RUNS.c.status == literal(Status.WAITING.value, literal_execute=True),
        RUNS.c.queue == queue,
        RUNS.c.job.in_(jobs),
        RUNS.c.waiting_for.contains(UNKNOWN_JOB, autoescape=True),
    )
    order = (RUNS.c.enqueued_at, RUNS.c.id)
    page = select(*order).where(waiting).order_by(*order).limit(PAGE_ROWS)
    rows = await fetch(database, settings, page)
    while rows:
        yield [row.id for row in rows]
        rows = await fetch(database, settings, page.where(pages.after(order, rows[-1])))


async def fail_lost(database: Database, settings: Settings, run_ids: Collection[str]) -> list[str]:
    """End, as failed, runs whose payload is gone before anybody could read it; those that were ended.

    Args:
        database: the ledger's.
        settings: whose timeouts hold.
        run_ids: those whose payload is not in Redis. One that has been read meanwhile is left alone.
    """
    error = ErrorRecord(
        type="PayloadLost",
        message="Redis lost the payload before any worker could read it, and the ledger never had its parameters. "
        "Enqueue the run again",
        sqlstate=None,
        traceback="",
    )
    lost = (
        select(RUNS.c.id)
        .where(RUNS.c.id.in_(run_ids), RUNS.c.job == UNREADABLE, RUNS.c.started_at.is_(None))
        .where(RUNS.c.status == Status.WAITING.value)
        .order_by(RUNS.c.id)
        .with_for_update()
    )
    ending = (
        update(RUNS)
        .values(status=Status.FAILED.value, error=error.as_json(), waiting_for=None, due_at=None)
        .values(finished_at=utc_now())
    )

    def fail(connection: Connection) -> list[str]:
        found = list(connection.execute(lost).scalars())
        connection.execute(ending.where(RUNS.c.id.in_(found)))
        return found

    return await carry_out(database, settings, fail)
