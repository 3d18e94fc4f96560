"""The acts that change what is there: an airport's code, a file made of the table, a retention delete with an archive.

Owns these acts and what must come of them: each is found out by plain SQL, and by plain Python from the file that the
table was made of. Shares no code with the jobs.
"""

import asyncio
from dataclasses import astuple, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import func, select
from sqlmodel import col

from worker.core.outcomes import Status
from worker.database.records import RunRecord
from worker.demo.check import Check, FileFacts, Totals, flights_in, read_file, read_table
from worker.demo.flights import COLUMNS
from worker.demo.models import ArchivedFlight, Flight
from worker.demo.played import Played
from worker.demo.stage import Stage
from worker.demo.worker_process import WorkerProcess

OLD_CODE: Final = "ORD"
NEW_CODE: Final = "CHI"
CUT_OFF: Final = datetime(2013, 7, 1, tzinfo=UTC)
_DEST, _TIME_HOUR = COLUMNS.index("dest"), COLUMNS.index("time_hour")


async def third_act(stage: Stage, worker: WorkerProcess, number: int) -> Played:
    """A batch update: the flights to O'Hare (ORD) are booked under Chicago's code (CHI)."""
    where = {"dest": {"eq": OLD_CODE}}
    params = {"table": Flight.__tablename__, "where": where, "set": {"dest": NEW_CODE}}
    record = await stage.play(worker, "batch_update", params)
    must = await asyncio.to_thread(_count, stage.second, _DEST, OLD_CODE)
    async with stage.client.database.reading() as connection:
        now = await connection.scalar(select(func.count()).where(col(Flight.dest) == NEW_CODE))
        left = await connection.scalar(select(func.count()).where(col(Flight.dest) == OLD_CODE))
        totals = await read_table(connection)
    checks = [
        _status(record),
        Check("read", record.counters.get("read"), must, None),
        Check("updated", record.counters.get("updated"), must, now),
        Check("unchanged", record.counters.get("unchanged"), 0, None),
        Check(f"flights to {OLD_CODE}", None, 0, left),
    ]
    return Played(number, record, checks, [], totals.flights)


async def fourth_act(stage: Stage, worker: WorkerProcess, number: int) -> Played:
    """All flights, streamed into a packed file."""
    params = {"table": Flight.__tablename__, "uri": stage.exported.resolve().as_uri(), "format": "csv"}
    record = await stage.play(worker, "export_rows", params)
    facts = await asyncio.to_thread(_read_made, stage.exported)
    async with stage.client.database.reading() as connection:
        totals = await read_table(connection)
    counted = record.result if isinstance(record.result, dict) else {}
    checks = [
        _status(record),
        Check("rows", counted.get("rows"), facts.records, totals.flights),
        Check("bytes", counted.get("bytes"), _size(stage.exported), None),
        *_same(facts.totals, totals),
    ]
    return Played(number, record, checks, [], totals.flights)


async def fifth_act(stage: Stage, worker: WorkerProcess, number: int) -> Played:
    """A retention delete: the flights before July go into an archive table."""
    async with stage.client.database.reading() as connection:
        before = await read_table(connection)
    where = {"time_hour": {"lt": CUT_OFF.isoformat()}}
    params = {"table": Flight.__tablename__, "where": where, "archive": ArchivedFlight.__tablename__}
    record = await stage.play(worker, "chunked_delete", params)
    must = await asyncio.to_thread(_count_before, stage.second, CUT_OFF)
    async with stage.client.database.reading() as connection:
        kept, archived = await read_table(connection), await read_table(connection, ArchivedFlight)
        late = await connection.scalar(select(func.count()).where(col(Flight.time_hour) < CUT_OFF))
    checks = [
        _status(record),
        Check("deleted", record.counters.get("deleted"), must, before.flights - kept.flights),
        Check("archived", record.counters.get("archived"), must, archived.flights),
        Check("flights before July", None, 0, late),
        Check("distance, kept and archived", None, before.distance, kept.distance + archived.distance),
        Check("air time, kept and archived", None, before.air_time, kept.air_time + archived.air_time),
    ]
    return Played(number, record, checks, [], kept.flights)


def _status(record: RunRecord) -> Check:
    return Check("status", record.status.value, Status.SUCCEEDED.value, None)


def _same(file: Totals, table: Totals) -> list[Check]:
    names = [total.name for total in fields(Totals)]
    return [
        Check(name.replace("_", " "), None, left, right)
        for name, left, right in zip(names, astuple(file), astuple(table), strict=True)
    ]


def _count(path: Path, place: int, value: str) -> int:
    return sum(row[place] == value for row in flights_in(path))


def _count_before(path: Path, moment: datetime) -> int:
    return sum(datetime.fromisoformat(row[_TIME_HOUR]) < moment for row in flights_in(path))


def _read_made(path: Path) -> FileFacts:
    return read_file(path) if path.exists() else FileFacts(0, (), 0, Totals())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
