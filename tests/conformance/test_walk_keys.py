"""Walks by keys of every ordered type: each row is met once, in the database's own order, interrupted or not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import md5
from typing import Any, Final
from uuid import UUID

import pytest
from sqlalchemy import (
    CHAR,
    BigInteger,
    Column,
    Date,
    DateTime,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Table,
    Uuid,
    select,
    true,
)
from sqlalchemy.types import TypeEngine

from tests.conftest import MakeRunner
from tests.support.column_types import MOMENT, WALL
from tests.support.own_session import execute, put, rows_of, value_of
from tests.support.rebuild import rebuild
from worker import JobContext, RegisteredTable, Registry, Tables, job, primary_walk
from worker.core.outcomes import Failed, Interrupted, Succeeded
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database
from worker.run.runner import Runner

WALKS = Registry()
ROWS: Final = 60
LETTERS: Final = ("a", "B", "é", "z", "Ä", "ß")
LATE: Final = datetime(2024, 3, 31, 0, 59, 59, 999_970, tzinfo=UTC)
"""The last microseconds before an hour that not every time zone has."""

AnyType = TypeEngine[Any]
BYTES: Final[AnyType] = String(40).with_variant(String(40, collation="C"), "postgresql")
EXACT: Final[AnyType] = Numeric(30, 10).with_variant(Numeric(12, 6), "sqlite")
ON_POSTGRESQL: Final = pytest.mark.only_on("postgresql", why="only PostgreSQL has such a type or collation")
PADS: Final = pytest.mark.only_on("postgresql", "mariadb", why="SQLite pads no text")


@dataclass(frozen=True, slots=True)
class Key:
    """A key, as the database has it and as the model says: they need not agree.

    Attributes:
        stored: the types of its columns.
        modelled: what the model says of them.
        value: of the row with a number.
    """

    stored: Sequence[AnyType]
    modelled: Sequence[AnyType]
    value: Callable[[int], Sequence[object]]


def moment(n: int) -> datetime:
    """Moments that are a microsecond apart."""
    return LATE + timedelta(microseconds=n)


def uuid(n: int) -> UUID:
    """UUIDs in no order of their numbers."""
    return UUID(md5(str(n).encode(), usedforsecurity=False).hexdigest(), version=4)


def key(stored: AnyType, modelled: AnyType, value: Callable[[int], object]) -> Key:
    """A key of one column."""
    return Key([stored], [modelled], lambda n: [value(n)])


KEYS: Final = [
    pytest.param(key(BigInteger(), BigInteger(), lambda n: n * 1_000_000_007), id="bigint"),
    pytest.param(key(BigInteger(), Integer(), lambda n: n * 1_000_000_007), id="bigint in a model of integer"),
    pytest.param(key(SmallInteger(), SmallInteger(), lambda n: n - 30), id="smallint"),
    pytest.param(key(EXACT, Numeric(30, 10), lambda n: Decimal(n) / 7 - 3), id="numeric"),
    pytest.param(
        key(Numeric(), Numeric(asdecimal=False), lambda n: Decimal(12345678901234567890) + Decimal(n) / 7),
        id="numeric in a model of floats",
        marks=ON_POSTGRESQL,
    ),
    pytest.param(key(Uuid(), Uuid(), uuid), id="uuid"),
    pytest.param(key(Uuid(), Uuid(as_uuid=False), uuid), id="uuid as text"),
    pytest.param(key(Date(), Date(), lambda n: date(2024, 2, 1) + timedelta(n)), id="date"),
    pytest.param(key(MOMENT, DateTime(timezone=True), moment), id="moments with microseconds"),
    pytest.param(key(MOMENT, DateTime(), moment), id="moments with a zone that the model lacks"),
    pytest.param(
        key(WALL, DateTime(timezone=True), lambda n: moment(n).replace(tzinfo=None)),
        id="moments without the zone of the model",
    ),
    pytest.param(key(BYTES, String(), lambda n: f"{chr(64 + n)}{n}"), id="text"),
    pytest.param(
        key(String(40, collation="{unicode}"), String(), lambda n: f"{LETTERS[n % 6]}{chr(64 + n // 6)}"),
        id="text in unicode order",
        marks=ON_POSTGRESQL,
    ),
    pytest.param(key(CHAR(5), String(), str), id="padded text", marks=PADS),
    pytest.param(
        Key(
            [BYTES, MOMENT, BigInteger()],
            [String(), DateTime(timezone=True), Integer()],
            lambda n: ["bAä"[n % 3], moment(n // 10), n * 5_000_000_000],
        ),
        id="several",
    ),
]


@job(registry=WALKS)
async def visit(ctx: JobContext) -> list[int]:
    """Note down each row's number, in the order in which rows are met."""
    table = ctx.tables.get("parcel").table
    walk = primary_walk(table, await ctx.tools.table_facts(table))
    async for span in ctx.spans(walk, true()):
        found = select(table.c.n).where(span.condition).order_by(*walk.key)
        seen = span.keep.get("seen", [])
        assert isinstance(seen, list)
        span.keep["seen"] = [*seen, *(await ctx.tools.execute(found)).scalars()]
    seen = ctx.kept["seen"]
    assert isinstance(seen, list)
    return seen


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of seven rows, always, so that a span's edge falls anywhere."""
    return settings.model_copy(update={"chunk_start_rows": 7, "chunk_min_rows": 7, "chunk_max_rows": 7})


def parcels(types: Sequence[AnyType]) -> Table:
    """A table whose key has columns of some types."""
    keys = [Column(f"k{at}", type_, primary_key=True, autoincrement=False) for at, type_ in enumerate(types)]
    return Table("parcel", MetaData(), *keys, Column("n", Integer))


async def make_table(database: Database, sample: Key) -> None:
    """Create the table of a test in the database and fill it."""
    stored = parcels(sample.stored)
    for type_ in sample.stored:
        if getattr(type_, "collation", None) == "{unicode}":
            stored = parcels([String(40, collation=await unicode_collation(database))])
    async with database.engine.begin() as connection:
        await connection.run_sync(stored.create)
    rows = [{f"k{at}": part for at, part in enumerate(sample.value(n))} | {"n": n} for n in range(1, ROWS + 1)]
    await put(database, stored, rows)


async def unicode_collation(database: Database) -> str:
    """ICU's where the server has it; version 18 has one of its own."""
    return str(
        await value_of(
            database,
            "SELECT collname FROM pg_collation WHERE collname IN ('und-x-icu', 'pg_unicode_fast') "
            "ORDER BY collprovider DESC LIMIT 1",
        )
    )


def walking(make_runner: MakeRunner, table: Table) -> Runner:
    """A runner of this module's jobs over one table."""
    runner = make_runner()
    object.__setattr__(runner, "registry", WALKS)
    object.__setattr__(runner, "tables", Tables({table.name: RegisteredTable(table.name, table, None)}, {}))
    return runner


def one_chunk_of(runner: Runner) -> Runner:
    """A runner that stops after its first chunk."""
    object.__setattr__(runner, "emit", lambda event: runner.stop.set() if "Chunk" in type(event).__name__ else None)
    return runner


async def walk_to_the_end(make_runner: MakeRunner, table: Table) -> list[int]:
    """Run `visit`, interrupted after every chunk."""
    for _ in range(ROWS):
        runner = walking(make_runner, table)
        stop = runner.stop
        object.__setattr__(
            runner, "emit", lambda event, stop=stop: stop.set() if "Chunk" in type(event).__name__ else 0
        )
        outcome = await runner.run(Delivery("w", "visit", {}, {}, "arq:queue", 1))
        if isinstance(outcome, Succeeded):
            assert isinstance(outcome.result, list)
            return outcome.result
        assert outcome == Interrupted(), outcome
    raise AssertionError("the walk did not end")


@pytest.mark.parametrize("sample", KEYS)
async def test_every_row_is_met_once_in_order(make_runner: MakeRunner, database: Database, sample: Key) -> None:
    """A walk that is interrupted after every chunk meets the rows as one ordered query lists them."""
    await make_table(database, sample)
    seen = await walk_to_the_end(make_runner, parcels(sample.modelled))
    order = ", ".join(f"k{at}" for at in range(len(sample.stored)))
    assert [(n,) for n in seen] == await rows_of(database, f"SELECT n FROM parcel ORDER BY {order}")


@pytest.mark.only_on("postgresql", why="citext is PostgreSQL's")
async def test_text_that_compares_without_regard_to_case(make_runner: MakeRunner, database: Database) -> None:
    """A key of citext in a model of plain text is compared as citext, not as the text that the model says."""
    if not await rows_of(database, "SELECT 1 FROM pg_available_extensions WHERE name = 'citext'"):
        pytest.skip("this server came without the extension citext")
    await make_table(database, key(String(), String(), lambda n: f"{LETTERS[n % 6]}{chr(64 + n // 6)}"))
    await execute(database, "CREATE EXTENSION citext", "ALTER TABLE parcel ALTER k0 TYPE citext")
    seen = await walk_to_the_end(make_runner, parcels([String()]))
    assert [(n,) for n in seen] == await rows_of(database, "SELECT n FROM parcel ORDER BY k0")


async def test_a_cursor_of_another_order_is_refused(make_runner: MakeRunner, database: Database) -> None:
    """A run whose table got another primary key meanwhile fails; it does not skip rows."""
    await make_table(database, key(Integer(), Integer(), int))
    modelled = Table("parcel", MetaData(), Column("k0", Integer), Column("n", Integer))
    delivery = Delivery("w", "visit", {}, {}, "arq:queue", 1)
    assert await one_chunk_of(walking(make_runner, modelled)).run(delivery) == Interrupted()
    other_key = Column("n", Integer, primary_key=True, autoincrement=False)
    await rebuild(database, parcels([Integer()]), Column("k0", Integer), other_key)
    outcome = await walking(make_runner, modelled).run(delivery)
    assert isinstance(outcome, Failed)
    assert "walked table 'parcel' by (k0), and is now to walk it by (n)" in outcome.error.message
