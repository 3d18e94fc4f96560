"""What the flights must have become, found out twice without the job: by plain SQL, and by reading the file.

Owns the comparison of the job's own counts with both. Shares no code with the job: the file is read with Python's `csv`
alone, and the table is asked with aggregates.
"""

import csv
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from worker.core.outcomes import Status
from worker.database.records import RunRecord
from worker.database.tables import QUARANTINE
from worker.demo.flights import COLUMNS
from worker.demo.models import Flight, FlightColumns

_TEXT: Final = frozenset({"carrier", "tailnum", "origin", "dest"})
_OPTIONAL: Final = frozenset({"dep_time", "dep_delay", "arr_time", "arr_delay", "tailnum", "air_time"})
_MUST: Final = itemgetter(*(at for at, name in enumerate(COLUMNS) if name not in _OPTIONAL))
_NUMBERS: Final = itemgetter(*(at for at, name in enumerate(COLUMNS) if name not in _TEXT | {"time_hour"}))
_DEP_DELAY, _ARR_DELAY, _AIR_TIME, _DISTANCE, _TAILNUM, _TIME_HOUR = (
    COLUMNS.index(name) for name in ("dep_delay", "arr_delay", "air_time", "distance", "tailnum", "time_hour")
)


Fact = int | str | tuple[int, ...]
"""An amount, a word, or line numbers."""


@dataclass(slots=True)
class Totals:
    """What a table of flights adds up to: minutes for delays and air time, miles for distance."""

    flights: int = 0
    departed: int = 0
    departure_delays: int = 0
    arrival_delays: int = 0
    air_time: int = 0
    distance: int = 0
    aircraft: int = 0
    hours: int = 0


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a file of flights holds, by plain Python.

    Attributes:
        records: lines but the header.
        malformed: the line numbers of those that are no flight.
        changed: how many flights differ from the earlier file's; all of them where there is none.
        totals: what its flights add up to.
    """

    records: int
    malformed: tuple[int, ...]
    changed: int
    totals: Totals


@dataclass(frozen=True, slots=True)
class Check:
    """One fact, as told from up to three sides.

    Attributes:
        what: what is counted.
        job: what the job says; None where it says nothing of it.
        file: what plain Python finds in the file, or what must be.
        sql: what plain SQL finds in the database; None where the database cannot know.
    """

    what: str
    job: Fact | None
    file: Fact
    sql: Fact | None

    @property
    def right(self) -> bool:
        """Whether all that say something say the same."""
        return len({self.file, *(side for side in (self.job, self.sql) if side is not None)}) == 1


def read_file(path: Path, earlier: Path | None = None) -> FileFacts:
    """Read a file of flights with plain Python. Blocks for seconds: call it in a thread.

    Args:
        path: the CSV file.
        earlier: a file of the same flights in the same order, as they were before.
    """
    records, changed, malformed, totals = 0, 0, [], Totals()
    aircraft, hours = set(), set()
    before = iter(()) if earlier is None else flights_in(earlier)
    for line, row in _rows(path):
        records += 1
        if row is None:
            malformed.append(line)
            continue
        changed += row != next(before, None)
        _add(totals, row)
        aircraft.add(row[_TAILNUM])
        hours.add(row[_TIME_HOUR])
    totals.aircraft, totals.hours = len(aircraft - {""}), len(hours)
    return FileFacts(records, tuple(malformed), changed, totals)


def flights_in(path: Path) -> Iterator[list[str]]:
    """The cells of each flight in a CSV file, plain or packed by gzip."""
    return (row for _, row in _rows(path) if row is not None)


def _rows(path: Path) -> Iterator[tuple[int, list[str] | None]]:
    """The line number of each record with its cells, or None where it is no flight."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file)
        next(reader)
        for row in reader:
            yield reader.line_num, row if _is_flight(row) else None


def _is_flight(row: list[str]) -> bool:
    try:
        if len(row) != len(COLUMNS) or not all(_MUST(row)):
            return False
        for number in filter(None, _NUMBERS(row)):
            int(number)
        datetime.fromisoformat(row[_TIME_HOUR])
        "".join(row).encode()
    except ValueError:
        # no number, no date, or (a UnicodeEncodeError is one too) bytes that were no UTF-8
        return False
    return True


def _add(totals: Totals, row: Sequence[str]) -> None:
    totals.flights += 1
    totals.departed += row[_DEP_DELAY] != ""
    totals.departure_delays += int(row[_DEP_DELAY] or 0)
    totals.arrival_delays += int(row[_ARR_DELAY] or 0)
    totals.air_time += int(row[_AIR_TIME] or 0)
    totals.distance += int(row[_DISTANCE])


async def read_table(connection: AsyncConnection, table: type[FlightColumns] = Flight) -> Totals:
    """Ask a table of flights what they add up to, by one plain statement."""
    totals = select(
        func.count(),
        func.count(col(table.dep_delay)),
        func.sum(table.dep_delay),
        func.sum(table.arr_delay),
        func.sum(table.air_time),
        func.sum(table.distance),
        func.count(col(table.tailnum).distinct()),
        func.count(col(table.time_hour).distinct()),
    ).select_from(table)
    # the sum of no row is NULL, and sums of integers are decimals on some databases
    return Totals(*(int(value or 0) for value in (await connection.execute(totals)).one()))


async def read_refused(connection: AsyncConnection, run_id: str) -> tuple[int, ...]:
    """The line numbers of the rows that a run put into quarantine, ascending."""
    lines = select(QUARANTINE.c.position).where(QUARANTINE.c.run_id == run_id).order_by(QUARANTINE.c.position)
    return tuple((await connection.execute(lines)).scalars())


def compare(
    record: RunRecord, facts: FileFacts, before: Totals, after: Totals, refused: tuple[int, ...]
) -> list[Check]:
    """Hold what a run says of itself against the file and the table.

    Args:
        record: of the run, ended.
        facts: of its file.
        before: the table's totals before the run.
        after: the table's totals after it.
        refused: the lines in quarantine, as the database has them.
    """
    if record.status is not Status.SUCCEEDED:
        return [Check("status", record.status.value, Status.SUCCEEDED.value, None)]
    counted, flights = record.counters, facts.totals.flights
    new, later = flights - before.flights, _later(before, after)
    split = ("inserted", "updated", "unchanged", "duplicates", "quarantined")
    return [
        Check("status", record.status.value, Status.SUCCEEDED.value, None),
        Check("read", counted["read"], facts.records, None),
        Check("inserted", counted["inserted"], new, after.flights - before.flights),
        Check("updated", counted["updated"], facts.changed - new, later),
        Check("unchanged", counted["unchanged"], flights - facts.changed, before.flights - later),
        Check("duplicates", counted["duplicates"], 0, flights - after.flights),
        Check("quarantined", counted["quarantined"], len(facts.malformed), len(refused)),
        Check("these five add up to", sum(counted[name] for name in split), facts.records, None),
        Check("lines in quarantine", None, facts.malformed, refused),
        *_table_checks(facts.totals, after),
    ]


def _later(before: Totals, after: Totals) -> int:
    """How many flights changed, for a file that makes some of the flights a minute later."""
    return after.departure_delays - before.departure_delays if before.flights else 0


def _table_checks(file: Totals, table: Totals) -> list[Check]:
    return [
        Check("count(*)", None, file.flights, table.flights),
        Check("count(dep_delay)", None, file.departed, table.departed),
        Check("sum(dep_delay)", None, file.departure_delays, table.departure_delays),
        Check("sum(arr_delay)", None, file.arrival_delays, table.arrival_delays),
        Check("sum(air_time)", None, file.air_time, table.air_time),
        Check("sum(distance)", None, file.distance, table.distance),
        Check("count(distinct tailnum)", None, file.aircraft, table.aircraft),
        Check("count(distinct time_hour)", None, file.hours, table.hours),
    ]
