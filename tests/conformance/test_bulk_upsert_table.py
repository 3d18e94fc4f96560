"""`bulk_upsert` from a staging table: which columns, in which order, exactly, and from where it goes on."""

import warnings
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from enum import Enum
from typing import Any

import pytest
from sqlalchemy import JSON, Column, Connection, MetaData, Table, text
from sqlalchemy.exc import SAWarning
from sqlmodel import Field, SQLModel

from tests.conftest import MakeRunner
from worker.core.events import ChunkCommitted, Event
from worker.core.outcomes import Failed, Interrupted, Outcome, Succeeded
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database
from worker.declare.tables import RegisteredTable, Tables
from worker.run.runner import Runner

Execute = Callable[..., Awaitable[None]]
Prepare = Callable[..., Awaitable[Runner]]


class Mood(Enum):
    """Stored by its names, which are not its values."""

    GLAD = "glad!"
    SAD = "sad!"


class Feeling(SQLModel, table=True):
    """A model of types that the program and the database write in different ways."""

    id: int = Field(primary_key=True)
    mood: Mood
    moment: datetime
    doc: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    blob: bytes


STAGING = "CREATE TABLE staging (n int, batch text, name text, sku text, quantity int, price numeric(12,2))"

TYPES = {
    "numeric": "'0.1234567890123456789012345678901234567890', 'NaN', '-Infinity', '1e-30', '10', '10.00'",
    "numeric(12,2)": "'9999999999.99', 'NaN', '-0.01'",
    "bigint": "'-9223372036854775808', '9223372036854775807'",
    "double precision": "'NaN', '-Infinity', '0.1', '4.9e-324', '-0'",
    "real": "'0.1', 'Infinity', '3.4028235e38'",
    "text": "'', ' a ', 'ä\U0001f600', E'a\\n\\t\\\\'",
    "varchar(3)": "'', 'abc'",
    "char(3)": "'a', 'abc'",
    "bytea": r"'\x00ff', '', '\x5c78'",
    "boolean": "'t', 'f'",
    "date": "'0001-01-01', '9999-12-31', '2024-02-29'",
    "timestamp": "'2024-03-31 02:30:00.123456', '9999-12-31 23:59:59.999999', '0001-01-01'",
    "timestamptz": "'2024-03-31 02:30:00.123456+05:45', '9999-12-31 23:59:59.999999+00'",
    "time": "'23:59:59.999999', '00:00'",
    "timetz": "'12:30:00.000001+05:45'",
    "interval": "'-1 day 00:00:00.000001', '5 days'",
    "uuid": "'12345678-1234-5678-1234-567812345678'",
    "jsonb": """'{"a": [1, 2.5, null, "x"], "b": {}}', '[]', '"text"', '12345678901234567890', '0.1', 'true'""",
    "json": """'{"b":1,"a":0.30000000000000004}'""",
    "inet": "'10.0.0.1', '10.0.0.0/8', '::1'",
    "cidr": "'10.0.0.0/8'",
    "bit varying": "'101', ''",
    "int4range": "'[1,5)', 'empty', '(,7)'",
    "tstzrange": "'[2024-01-01 00:00+02,)'",
    "int[]": "'{1,NULL,3}', '{}'",
    "text[]": """'{"a,b","\\"",NULL,""}'""",
    "numeric[]": "'{0.10,NaN}'",
    "timestamp[]": "'{2024-01-01 00:00:00.000001}'",
    "bytea[]": r"""'{"\\x00ff"}'""",
    "temper": "'glad', 'so-so'",
    "temper[]": "'{glad,so-so}'",
    "positive": "'7'",
    "pair": """'(1,"x y")'""",
    "macaddr": "'08:00:2b:01:02:03'",
    "tsvector": "'a:1 fat:2'",
    "money": "'12.50'",
}
"""Values of each type, as SQL literals."""

KINDS = (
    "CREATE TYPE temper AS ENUM ('glad', 'so-so')",
    "CREATE DOMAIN positive AS integer CHECK (VALUE > 0)",
    "CREATE TYPE pair AS (n int, t text)",
)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of four rows, always."""
    return settings.model_copy(update={"chunk_start_rows": 4, "chunk_min_rows": 4, "chunk_max_rows": 4})


@pytest.fixture
def execute(database: Database) -> Execute:
    """Runs statements and commits."""

    async def run(*statements: str) -> None:
        async with database.engine.begin() as connection:
            for statement in statements:
                await connection.exec_driver_sql(statement)

    return run


@pytest.fixture
def prepare(make_runner: MakeRunner, database: Database) -> Prepare:
    """Makes a runner that knows more tables, found in the database as they are."""

    async def make(*names: str, allow: dict[str, tuple[str, ...]] | None = None) -> Runner:
        runner = make_runner()
        async with database.engine.connect() as connection:
            found = {name: await connection.run_sync(_reflect, name) for name in names}
        known = {table.name: table for table in runner.tables}
        reflected = {name: RegisteredTable(name, table, None) for name, table in found.items()}
        return replace(runner, tables=Tables({**known, **reflected}, allow or {}))

    return make


def _reflect(connection: Connection, name: str) -> Table:
    with warnings.catch_warnings(action="ignore", category=SAWarning):
        return Table(name, MetaData(), autoload_with=connection)


def upsert(source: str = "staging", table: str = "item", run_id: str = "u", **params: object) -> Delivery:
    """A delivery of the job from a table."""
    given = {"table": table, "source": {"table": source}, **params}
    return Delivery(run_id, "bulk_upsert", given, {}, "arq:queue", 1)


def message(outcome: Outcome) -> str:
    """What a run failed with."""
    assert isinstance(outcome, Failed), outcome
    return outcome.error.message


async def stage(execute: Execute, rows: int = 10, key: str = "n") -> None:
    """Make a staging table of so many items, the last one first."""
    await execute(
        f"{STAGING[:-1]}, PRIMARY KEY ({key}))",
        "INSERT INTO staging SELECT n, 'b', 'item ' || n, 'S' || n, n, n + 0.5 "
        f"FROM generate_series({rows}, 1, -1) AS n",
    )


async def rows_of(database: Database, query: str) -> list[tuple[object, ...]]:
    """What a query finds."""
    async with database.engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(query))]


async def test_the_columns_that_the_target_has(prepare: Prepare, execute: Execute, database: Database) -> None:
    """Columns that the target lacks are ignored, and the run's record says which."""
    await stage(execute)
    runner = await prepare("staging")
    outcome = await runner.run(upsert())
    counts = {"read": 10, "inserted": 10, "updated": 0, "unchanged": 0, "duplicates": 0, "quarantined": 0}
    assert outcome == Succeeded(counts)
    assert await rows_of(database, "SELECT sku, name, quantity, price FROM item ORDER BY quantity") == [
        (f"S{n}", f"item {n}", n, n + 0.5) for n in range(1, 11)
    ]
    record = await runner.ledger.read("u")
    assert (record.done, record.total) == (10, 10)
    assert record.notes == [
        "Columns of table 'staging' that have no place in the target are ignored: n, batch",
    ]


async def test_positions_are_indexes_in_key_order(prepare: Prepare, execute: Execute, database: Database) -> None:
    """A refused row's position is its place in the order of the staging table's key."""
    await stage(execute)
    await execute("UPDATE staging SET quantity = NULL WHERE n IN (3, 9)")
    await (await prepare("staging")).run(upsert())
    refused = await rows_of(database, "SELECT position, payload ->> 'sku' FROM heavylift_quarantine ORDER BY id")
    assert refused == [(3, "S3"), (9, "S9")]


async def test_a_run_goes_on_where_it_stood(prepare: Prepare, execute: Execute, database: Database) -> None:
    """After an interruption the rest is read; rows added behind the end at the start are not chased."""
    await stage(execute, key="batch, n")
    runner = await prepare("staging")

    def stop(event: Event) -> None:
        if isinstance(event, ChunkCommitted):
            runner.stop.set()

    assert isinstance(await replace(runner, emit=stop).run(upsert()), Interrupted)
    await execute(
        "INSERT INTO staging SELECT 99, 'c', 'late', 'S99', 1, 1",
        "UPDATE staging SET name = 'changed' WHERE n = 1",
    )
    outcome = await (await prepare("staging")).run(upsert())
    assert isinstance(outcome, Succeeded)
    assert await rows_of(database, "SELECT count(*), count(*) FILTER (WHERE name LIKE 'item%') FROM item") == [(10, 10)]


async def test_a_staging_table_changed_in_its_shape_fails_the_run(prepare: Prepare, execute: Execute) -> None:
    """A run whose table is now ordered by another key cannot know where it stood."""
    await stage(execute)
    runner = await prepare("staging")

    def stop(event: Event) -> None:
        if isinstance(event, ChunkCommitted):
            runner.stop.set()

    await replace(runner, emit=stop).run(upsert())
    await execute("ALTER TABLE staging DROP CONSTRAINT staging_pkey", "ALTER TABLE staging ADD PRIMARY KEY (sku)")
    assert "is now to be read by (sku)" in message(await (await prepare("staging")).run(upsert()))


async def test_an_empty_table_is_no_work(prepare: Prepare, execute: Execute) -> None:
    """Nothing staged is not an error."""
    await stage(execute, rows=0)
    outcome = await (await prepare("staging")).run(upsert())
    assert isinstance(outcome, Succeeded)
    assert set(dict(outcome.result).values()) == {0}  # type: ignore[call-overload]  # a result is any JSON


async def test_a_table_without_a_primary_key_is_refused(prepare: Prepare, execute: Execute) -> None:
    """It has no order to go on in; the message says how to give it one."""
    await execute(STAGING)
    assert "ADD COLUMN id bigint" in message(await (await prepare("staging")).run(upsert()))


async def test_a_table_that_may_not_be_read_is_refused(prepare: Prepare, execute: Execute) -> None:
    """What the configuration allows holds for sources, too."""
    await stage(execute)
    runner = await prepare("staging", allow={"staging": ("upsert",)})
    assert "does not allow 'read' on table 'staging'" in message(await runner.run(upsert()))
    assert "Did you mean 'staging'" in message(await runner.run(upsert("stagging", run_id="v")))


async def test_a_table_with_nothing_for_the_target_is_refused(prepare: Prepare, execute: Execute) -> None:
    """A table of other columns is a mistake, and the message shows both."""
    await execute("CREATE TABLE staging (n int PRIMARY KEY, code text)")
    said = message(await (await prepare("staging")).run(upsert()))
    assert "sku" in said
    assert "n, code" in said


async def test_a_generated_column_is_not_carried(prepare: Prepare, execute: Execute, database: Database) -> None:
    """A staging table made like its target has columns that only the database may write."""
    await execute(
        "CREATE TABLE target (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED)",
        "CREATE TABLE staging (LIKE target INCLUDING ALL)",
        "INSERT INTO staging (id, n) VALUES (1, 2)",
    )
    assert isinstance(await (await prepare("staging", "target")).run(upsert(table="target")), Succeeded)
    assert await rows_of(database, "SELECT * FROM target") == [(1, 2, 4)]


@pytest.mark.filterwarnings("ignore:.*operator_classes:sqlalchemy.exc.SADeprecationWarning")
async def test_values_of_every_type_arrive_exactly(prepare: Prepare, execute: Execute, database: Database) -> None:
    """What a staging table holds is what its target holds, to the last digit and byte, and NULL is NULL."""
    columns = ", ".join(f"v{at} {kind}" for at, kind in enumerate(TYPES))
    literals = [split(values) for values in TYPES.values()]
    longest = max(map(len, literals))
    # the last row has none of them
    lines = [[values[row] if row < len(values) else "NULL" for values in literals] for row in range(longest + 1)]
    await execute(
        *KINDS,
        *(f"CREATE TABLE {name} (id int PRIMARY KEY, {columns})" for name in ("staging", "target")),
        *(f"INSERT INTO staging VALUES ({row}, {', '.join(line)})" for row, line in enumerate(lines)),
    )
    outcome = await (await prepare("staging", "target")).run(upsert(table="target"))
    assert isinstance(outcome, Succeeded), outcome
    assert await rows_of(database, "SELECT reason, payload FROM heavylift_quarantine") == []
    for at, kind in enumerate(TYPES):
        written = f"SELECT id, v{at}::text FROM {{}} ORDER BY id"
        staged = await rows_of(database, written.format("staging"))
        assert await rows_of(database, written.format("target")) == staged, kind


async def test_infinity_is_refused_and_not_made_a_day(prepare: Prepare, execute: Execute, database: Database) -> None:
    """A moment that Python's calendar lacks is put aside with the reason, and the others of its column arrive."""
    await execute(
        *(f"CREATE TABLE {name} (id int PRIMARY KEY, day date, moment timestamptz)" for name in ("staging", "target")),
        "INSERT INTO staging VALUES (1, 'infinity', NULL), (2, '9999-12-31', NULL), (3, NULL, '-infinity')",
    )
    assert isinstance(await (await prepare("staging", "target")).run(upsert(table="target")), Succeeded)
    assert await rows_of(database, "SELECT id, day::text FROM target") == [(2, "9999-12-31")]
    reasons = await rows_of(database, "SELECT position, reason FROM heavylift_quarantine ORDER BY position")
    assert [position for position, _ in reasons] == [1, 3]
    assert all("infinity" in str(reason) for _, reason in reasons)


@pytest.mark.parametrize("modelled", [True, False])
async def test_a_model_is_met_on_its_terms(
    prepare: Prepare, execute: Execute, database: Database, *, modelled: bool
) -> None:
    """A target with a model takes what a table like it holds, whether that one has a model or not."""
    table: Table = Feeling.__table__  # type: ignore[attr-defined]  # SQLModel sets it
    async with database.engine.begin() as connection:
        await connection.run_sync(table.create)
    await execute(
        "CREATE TABLE staging (LIKE feeling INCLUDING ALL)",
        r"""INSERT INTO staging VALUES (1, 'GLAD', '2024-01-01 00:00:00.000001+02', '{"a":[null,1]}', '\x00ff')""",
    )
    runner = await prepare("staging")
    known = {table.name: table for table in runner.tables} | {"feeling": RegisteredTable("feeling", table, Feeling)}
    if modelled:
        copied = table.to_metadata(MetaData(), name="staging")
        known["staging"] = RegisteredTable("staging", copied, None)
    outcome = await replace(runner, tables=Tables(known, {})).run(upsert(table="feeling"))
    assert isinstance(outcome, Succeeded), outcome
    written = "SELECT x::text FROM {} AS x"
    assert await rows_of(database, written.format("feeling")) == await rows_of(database, written.format("staging"))


async def test_a_document_that_would_be_rounded_is_refused(
    prepare: Prepare, execute: Execute, database: Database
) -> None:
    """A number with more digits than a double holds is no number that a document could be written with again."""
    await execute(
        *(f"CREATE TABLE {name} (id int PRIMARY KEY, doc jsonb)" for name in ("staging", "target")),
        """INSERT INTO staging VALUES (1, '{"n": [0.12345678901234567890]}'), (2, '{"n": 12345678901234567890123}')""",
        "INSERT INTO staging VALUES (3, '{}')",
    )
    outcome = await (await prepare("staging", "target")).run(upsert(table="target"))
    assert isinstance(outcome, Succeeded)
    assert await rows_of(database, "SELECT id FROM target") == [(3,)]
    refused = await rows_of(database, "SELECT position, payload #>> '{doc}' FROM heavylift_quarantine")
    assert refused == [
        (1, '{"n":[{"$decimal":"0.12345678901234567890"}]}'),
        (2, '{"n":{"$int":"12345678901234567890123"}}'),
    ]


def split(literals: str) -> Sequence[str]:
    """SQL literals, separated by a comma and a blank that stand between quotes."""
    parts = literals.replace("', E'", "',\0E'").replace("', '", "',\0'").split(",\0")
    return [part.strip() for part in parts]
