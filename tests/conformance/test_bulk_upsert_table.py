"""`bulk_upsert` from a staging table: which columns, in which order, exactly, and from where it goes on."""

import warnings
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Column,
    Computed,
    Date,
    Integer,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    String,
    Table,
    Time,
    insert,
    select,
)
from sqlalchemy.exc import SAWarning
from sqlmodel import Field, SQLModel

from tests.conftest import MODELS, MakeRunner
from tests.support.chosen import Backend
from tests.support.column_types import DOCUMENT, MOMENT, WALL
from tests.support.items import execute, in_chunks_of, items, quarantined, rows, stored, upsert
from tests.support.outcomes import counts, message
from tests.support.type_samples import KINDS, SAMPLES, shown
from worker.core.events import ChunkCommitted, Event
from worker.core.outcomes import Interrupted, Succeeded
from worker.core.settings import Settings
from worker.database.engine import Database
from worker.database.reflect import complete_tables
from worker.declare.tables import RegisteredTable, Tables, find_tables
from worker.run.runner import Runner

Prepare = Callable[..., Awaitable[Runner]]


class Mood(Enum):
    """Stored by its names, which are not its values."""

    GLAD = "glad!"
    SAD = "sad!"


class Feeling(SQLModel, table=True):
    """A model of types that the program and the database write in different ways."""

    id: int = Field(primary_key=True)
    mood: Mood
    moment: datetime = Field(sa_column=Column(WALL, nullable=False))
    doc: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    photo: bytes


STAGED: dict[str, object] = {"table": "staging"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of four rows, always."""
    return in_chunks_of(settings, 4)


@pytest.fixture
def prepare(make_runner: MakeRunner, database: Database, settings: Settings) -> Prepare:
    """Makes a runner that knows more tables, found in the database as they are."""

    async def make(*names: str, allow: dict[str, tuple[str, ...]] | None = None) -> Runner:
        runner = make_runner()
        reflecting = settings.model_copy(update={"reflect": names})
        with warnings.catch_warnings(action="ignore", category=SAWarning):
            tables = await complete_tables(database, find_tables((MODELS,), allow or {}), reflecting)
        return replace(runner, tables=tables)

    return make


def staging(*key: str) -> Table:
    """A table of items to come, in another shape."""
    return Table(
        "staging",
        MetaData(),
        Column("n", Integer, autoincrement=False),
        Column("batch", String(40)),
        Column("name", String(40)),
        Column("sku", String(40)),
        Column("quantity", Integer),
        Column("price", Numeric(12, 2)),
        *([PrimaryKeyConstraint(*key)] if key else []),
    )


async def stage(database: Database, numbers: Sequence[int] = range(10, 0, -1), key: Sequence[str] = ("n",)) -> None:
    """Make a staging table of the items of these numbers, the last one first."""
    table = staging(*key)
    given = [
        {"n": n, "batch": "b", "name": f"item {n}", "sku": f"S{n}", "quantity": n, "price": n + Decimal("0.5")}
        for n in numbers
    ]
    async with database.engine.begin() as connection:
        await connection.run_sync(table.drop, checkfirst=True)
        await connection.run_sync(table.create)
        if given:
            await connection.execute(insert(table), given)


async def create(database: Database, *tables: Table) -> None:
    """Make tables."""
    async with database.engine.begin() as connection:
        for table in tables:
            await connection.run_sync(table.create)


def pair(*columns: Column[Any]) -> tuple[Table, Table]:
    """A staging table and its target, of the same columns."""
    target = Table("target", MetaData(), Column("id", Integer, primary_key=True), *columns)
    return target.to_metadata(MetaData(), name="staging"), target


async def test_the_columns_that_the_target_has(prepare: Prepare, database: Database) -> None:
    """Columns that the target lacks are ignored, and the run's record says which."""
    await stage(database)
    runner = await prepare("staging")
    outcome = await runner.run(upsert(STAGED))
    counts = {"read": 10, "inserted": 10, "updated": 0, "unchanged": 0, "duplicates": 0, "quarantined": 0}
    assert outcome == Succeeded(counts)
    assert await items(database, "quantity", "sku", "name", "price") == [
        (n, f"S{n}", f"item {n}", n + Decimal("0.5")) for n in range(1, 11)
    ]
    record = await runner.ledger.read("u")
    assert (record.done, record.total) == (10, 10)
    assert record.notes == [
        "Columns of table 'staging' that have no place in the target are ignored: n, batch",
    ]


async def test_positions_are_indexes_in_key_order(prepare: Prepare, database: Database) -> None:
    """A refused row's position is its place in the order of the staging table's key."""
    await stage(database)
    await execute(database, "UPDATE staging SET quantity = NULL WHERE n IN (3, 9)")
    await (await prepare("staging")).run(upsert(STAGED))
    refused = await quarantined(database)
    assert [(row.position, row.payload["sku"]) for row in refused] == [(3, "S3"), (9, "S9")]


async def test_a_run_goes_on_where_it_stood(prepare: Prepare, database: Database) -> None:
    """After an interruption the rest is read; rows added behind the end at the start are not chased."""
    await stage(database, key=("batch", "n"))
    runner = await prepare("staging")

    def stop(event: Event) -> None:
        if isinstance(event, ChunkCommitted):
            runner.stop.set()

    assert isinstance(await replace(runner, emit=stop).run(upsert(STAGED)), Interrupted)
    await execute(
        database,
        "INSERT INTO staging (n, batch, name, sku, quantity, price) VALUES (99, 'c', 'late', 'S99', 1, 1)",
        "UPDATE staging SET name = 'changed' WHERE n = 1",
    )
    outcome = await (await prepare("staging")).run(upsert(STAGED))
    assert isinstance(outcome, Succeeded)
    assert await stored(database, "name") == {f"S{n}": f"item {n}" for n in range(1, 11)}


async def test_a_staging_table_changed_in_its_shape_fails_the_run(prepare: Prepare, database: Database) -> None:
    """A run whose table is now ordered by another key cannot know where it stood."""
    await stage(database)
    runner = await prepare("staging")

    def stop(event: Event) -> None:
        if isinstance(event, ChunkCommitted):
            runner.stop.set()

    await replace(runner, emit=stop).run(upsert(STAGED))
    await stage(database, key=("sku",))
    assert "is now to be read by (sku)" in message(await (await prepare("staging")).run(upsert(STAGED)))


async def test_an_empty_table_is_no_work(prepare: Prepare, database: Database) -> None:
    """Nothing staged is not an error."""
    await stage(database, ())
    outcome = await (await prepare("staging")).run(upsert(STAGED))
    assert isinstance(outcome, Succeeded)
    assert set(dict(outcome.result).values()) == {0}  # type: ignore[call-overload]  # a result is any JSON


async def test_a_table_without_a_primary_key_is_refused(prepare: Prepare, database: Database) -> None:
    """It has no order to go on in; the message says how to give it one."""
    await create(database, staging())
    assert "has no primary key" in message(await (await prepare("staging")).run(upsert(STAGED)))


async def test_a_table_that_may_not_be_read_is_refused(prepare: Prepare, database: Database) -> None:
    """What the configuration allows holds for sources, too."""
    await stage(database)
    runner = await prepare("staging", allow={"staging": ("upsert",)})
    assert "does not allow 'read' on table 'staging'" in message(await runner.run(upsert(STAGED)))
    assert "Did you mean 'staging'" in message(await runner.run(upsert({"table": "stagging"}, "v")))


async def test_a_table_with_nothing_for_the_target_is_refused(prepare: Prepare, database: Database) -> None:
    """A table of other columns is a mistake, and the message shows both."""
    await create(
        database, Table("staging", MetaData(), Column("n", Integer, primary_key=True), Column("code", String(9)))
    )
    said = message(await (await prepare("staging")).run(upsert(STAGED)))
    assert "sku" in said
    assert "n, code" in said


async def test_a_generated_column_is_not_carried(prepare: Prepare, database: Database) -> None:
    """A staging table made like its target has columns that only the database may write."""
    columns = [Column("n", Integer), Column("twice", Integer, Computed("n * 2", persisted=True))]
    await create(database, *pair(*columns))
    await execute(database, "INSERT INTO staging (id, n) VALUES (1, 2)")
    assert isinstance(await (await prepare("staging", "target")).run(upsert(STAGED, table="target")), Succeeded)
    assert await rows(database, "SELECT id, n, twice FROM target") == [(1, 2, 4)]


@pytest.mark.filterwarnings("ignore:.*operator_classes:sqlalchemy.exc.SADeprecationWarning")
async def test_values_of_every_type_arrive_exactly(prepare: Prepare, database: Database, backend: Backend) -> None:
    """What a staging table holds is what its target holds, to the last digit and byte, and NULL is NULL."""
    samples = SAMPLES[backend]
    columns = ", ".join(f"v{at} {kind}" for at, kind in enumerate(samples))
    longest = max(map(len, samples.values()))
    # the last row has none of them
    lines = [
        [values[row] if row < len(values) else "NULL" for values in samples.values()] for row in range(longest + 1)
    ]
    async with database.engine.begin() as connection:
        for statement in (
            *KINDS[backend],
            *(f"CREATE TABLE {name} (id int PRIMARY KEY, {columns})" for name in ("staging", "target")),
            *(f"INSERT INTO staging VALUES ({row}, {', '.join(line)})" for row, line in enumerate(lines)),
        ):
            await connection.exec_driver_sql(statement)
    outcome = await (await prepare("staging", "target")).run(upsert(STAGED, table="target"))
    assert isinstance(outcome, Succeeded), outcome
    assert [(row.reason, row.payload) for row in await quarantined(database)] == []
    for at, kind in enumerate(samples):
        written = f"SELECT id, {shown(backend, f'v{at}')} FROM {{}} ORDER BY id"
        staged = await read(database, written.format("staging"))
        assert await read(database, written.format("target")) == staged, kind
    again = await (await prepare("staging", "target")).run(upsert(STAGED, "again", table="target"))
    assert counts(again) == {"read": longest + 1, "unchanged": longest + 1}


async def read(database: Database, query: str) -> list[tuple[object, ...]]:
    """What a query in a database's own SQL returns."""
    async with database.engine.connect() as connection:
        return [tuple(row) for row in await connection.exec_driver_sql(query)]


NO_MOMENTS: dict[Backend, tuple[str, str, str]] = {
    "postgresql": ("infinity", "-infinity", "24:00:00"),
    "sqlite": ("infinity", "-infinity", "24:00:00.000000"),
    "mariadb": ("0000-00-00", "0000-00-00 00:00:00", "-00:00:01"),
}
"""What columns of days, of moments and of times may hold and Python has not."""


async def test_what_is_no_moment_is_refused_and_not_made_one(
    prepare: Prepare, database: Database, backend: Backend
) -> None:
    """A day, a moment or a time that Python lacks is put aside with the reason, and the others arrive."""
    day, moment, hour = NO_MOMENTS[backend]
    await create(database, *pair(Column("day", Date), Column("moment", MOMENT), Column("hour", Time)))
    # MariaDB's own default of many years
    lenient, strict = ("SET sql_mode = ''", "SET sql_mode = DEFAULT") if backend == "mariadb" else ("SELECT 1",) * 2
    given = [f"(1, '{day}', NULL, NULL)", f"(3, NULL, '{moment}', NULL)", f"(4, NULL, NULL, '{hour}')"]
    sound = "(2, '9999-12-31', NULL, NULL)"
    async with database.engine.begin() as connection:
        for statement in (lenient, f"INSERT INTO staging VALUES {', '.join([*given, sound])}", strict):
            await connection.exec_driver_sql(statement)
    assert isinstance(await (await prepare("staging", "target")).run(upsert(STAGED, table="target")), Succeeded)
    target = Table("target", MetaData(), Column("id", Integer), Column("day", Date))
    assert await rows(database, select(target)) == [(2, date(9999, 12, 31))]
    refused = await quarantined(database)
    assert [row.position for row in refused] == [1, 3, 4]
    assert all(said in row.reason for said, row in zip((day, moment, hour), refused, strict=True))


@pytest.mark.parametrize("modelled", [True, False])
async def test_a_model_is_met_on_its_terms(
    prepare: Prepare, database: Database, backend: Backend, *, modelled: bool
) -> None:
    """A target with a model takes what a table like it holds, whether that one has a model or not."""
    table: Table = Feeling.__table__  # type: ignore[attr-defined]  # SQLModel sets it
    copied = table.to_metadata(MetaData(), name="staging")
    feeling = {"id": 1, "mood": Mood.GLAD, "moment": datetime(2024, 1, 1, 0, 0, 0, 1), "doc": {"a": [None, 1]}}  # noqa: DTZ001 - the column has no zone
    await create(database, table)
    async with database.engine.begin() as connection:
        await connection.run_sync(copied.create, checkfirst=True)
        await connection.execute(insert(copied), [{**feeling, "photo": b"\x00\xff"}])
    runner = await prepare("staging")
    known = {table.name: table for table in runner.tables} | {"feeling": RegisteredTable("feeling", table, Feeling)}
    if modelled:
        known["staging"] = RegisteredTable("staging", copied, None)
    outcome = await replace(runner, tables=Tables(known, {})).run(upsert(STAGED, table="feeling"))
    assert isinstance(outcome, Succeeded), outcome
    written = f"SELECT {', '.join(shown(backend, name) for name in ('id', 'mood', 'moment', 'doc', 'photo'))} FROM {{}}"
    found = await read(database, written.format("feeling"))
    assert len(found) == 1
    assert found == await read(database, written.format("staging"))


async def test_a_document_that_would_be_rounded_is_refused(make_runner: MakeRunner, database: Database) -> None:
    """A number with more digits than a double holds is no number that a document could be written with again."""
    tables = pair(Column("doc", DOCUMENT))
    await create(database, *tables)
    documents = ('{"n": [0.12345678901234567890]}', '{"n": 12345678901234567890123}', "{}")
    async with database.engine.begin() as connection:
        for at, document in enumerate(documents, start=1):
            await connection.exec_driver_sql(f"INSERT INTO staging VALUES ({at}, '{document}')")
    known = Tables({table.name: RegisteredTable(table.name, table, None) for table in tables}, {})
    outcome = await replace(make_runner(), tables=known).run(upsert(STAGED, table="target"))
    assert isinstance(outcome, Succeeded)
    assert await rows(database, "SELECT id FROM target") == [(3,)]
    assert [(row.position, row.payload["doc"]) for row in await quarantined(database)] == [
        (1, {"n": [{"$decimal": "0.12345678901234567890"}]}),
        (2, {"n": {"$int": "12345678901234567890123"}}),
    ]
