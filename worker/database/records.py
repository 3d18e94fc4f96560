"""Run records: what the ledger says of runs, in the shape of the outer contract.

Owns reading runs, one or many, and the record of one that is new. Refuses to change any.
"""

from collections.abc import Collection
from datetime import datetime

from pydantic import BaseModel
from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.clock import from_ms
from worker.core.errors import UnknownRunError
from worker.core.outcomes import Status
from worker.database.claims import Delivery, Terms
from worker.database.tables import PROGRESS, RUNS


class RunError(BaseModel):
    """Why a run failed, or failed last."""

    type: str
    message: str
    sqlstate: str | None = None
    constraint: str | None = None
    traceback: str = ""


class RunRecord(BaseModel):
    """A run as commands and HTTP show it.

    `done` and `total` count rows; `total` is None while unknown and an estimate while a file is being read.
    `cursor` is None before the first chunk; `chunk_rows` is how many rows the next chunk aims at. `notes` is what a
    person should know though the run goes on. Times are aware, in UTC.
    """

    id: str
    job: str
    status: Status
    params: dict[str, object]
    cursor: dict[str, object] | None
    done: int
    total: int | None
    counters: dict[str, int]
    result: object | None
    error: RunError | None
    attempts: int
    interruptions: int
    crashes: int
    fence: int
    worker: str | None
    enqueued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    waiting_for: str | None
    enqueued_by: str | None = None
    chunk_rows: int = 0
    notes: list[str] = []


class RunPage(BaseModel):
    """Some of the runs that a filter finds, newest first."""

    items: list[RunRecord]
    total: int
    page: int
    size: int
    pages: int


_COLUMNS = (
    *(RUNS.c[name] for name in ("id", "job", "status", "params", "result", "error", "attempts", "interruptions")),
    *(RUNS.c[name] for name in ("crashes", "worker", "enqueued_at", "started_at", "finished_at", "waiting_for")),
    *(RUNS.c[name] for name in ("enqueued_by", "notes")),
    *(PROGRESS.c[name] for name in ("cursor", "done", "total", "counters", "fence", "chunk_rows")),
)
_RECORDS = select(*_COLUMNS).select_from(RUNS.outerjoin(PROGRESS, PROGRESS.c.run_id == RUNS.c.id))


def fresh_record(delivery: Delivery, terms: Terms) -> RunRecord:
    """The record of a run that has just been written down, as `read_run` would find it."""
    return RunRecord(
        id=delivery.run_id,
        job=delivery.job,
        status=terms.status,
        params=delivery.params,
        enqueued_at=from_ms(delivery.enqueued_ms),
        waiting_for=terms.waiting_for,
        enqueued_by=terms.enqueued_by,
        # what a claim and its chunks are the first to set
        **dict.fromkeys(("cursor", "total", "result", "error", "worker", "started_at", "finished_at")),
        **dict.fromkeys(("done", "attempts", "interruptions", "crashes", "fence"), 0),
        counters={},
    )


async def read_run(connection: AsyncConnection, run_id: str) -> RunRecord:
    """One run.

    Raises:
        UnknownRunError: the ledger knows none of that id.
    """
    row = (await connection.execute(_RECORDS.where(RUNS.c.id == run_id))).one_or_none()
    if row is None:
        raise UnknownRunError(run_id)
    return _record(row)


async def read_some(connection: AsyncConnection, run_ids: Collection[str]) -> dict[str, RunRecord]:
    """Those of some runs that the ledger knows, by id."""
    rows = await connection.execute(_RECORDS.where(RUNS.c.id.in_(run_ids)))
    return {row.id: _record(row) for row in rows}


async def read_runs(
    connection: AsyncConnection, *, status: Status | None = None, job: str | None = None, page: int = 1, size: int = 50
) -> RunPage:
    """Runs, newest first.

    Args:
        connection: any.
        status: only these.
        job: only of this job.
        page: from 1.
        size: runs a page, 1 to 1000.
    """
    conditions = [RUNS.c.status == status.value] if status else []
    if job:
        conditions.append(RUNS.c.job == job)
    counted = select(func.count()).select_from(RUNS).where(*conditions)
    total = (await connection.execute(counted)).scalar_one()
    found = await connection.execute(
        _RECORDS.where(*conditions)
        .order_by(RUNS.c.enqueued_at.desc(), RUNS.c.id.desc())
        .limit(size)
        .offset((page - 1) * size)
    )
    items = [_record(row) for row in found]
    return RunPage(items=items, total=total, page=page, size=size, pages=-(-total // size))


def _record(row: Row[tuple[object, ...]]) -> RunRecord:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
    # a run that nobody claimed yet has no progress row
    absent = {"done": 0, "counters": {}, "fence": 0, "chunk_rows": 0, "notes": []}
    values.update({name: value for name, value in absent.items() if values[name] is None})
    return RunRecord.model_validate(values)
