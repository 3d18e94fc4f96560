"""Keys of every type with an order: each row is met once, in the table's own order, whatever interrupts the walk."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    Column,
    Date,
    DateTime,
    Float,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Time,
    Uuid,
    delete,
    insert,
    select,
    text,
    true,
)
from sqlalchemy import Enum as EnumType
from sqlalchemy.orm import registry
from sqlalchemy.types import TypeEngine
from sqlmodel import select as select_model
from sqlmodel.sql.sqltypes import UTCDateTime

from tests.conftest import MakeRunner
from worker import JobContext, Registry, job, primary_walk
from worker.core.events import ChunkCommitted, Event
from worker.core.outcomes import Failed, Interrupted, Outcome, Succeeded
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database
from worker.run.runner import Runner
from worker.run.stop_signal import StopSignal


class Mood(Enum):
    """Names and values are crossed over, and their order is neither of the two."""

    calm = "wild"
    wild = "calm"
    blue = "blue"


@dataclass(frozen=True)
class Case:
    """A key's columns.

    Attributes:
        columns: by name: what the database declares, and what the model says of it.
        rows: the keys, each as the database writes it.
    """

    columns: dict[str, tuple[str, TypeEngine[Any]]]
    rows: list[str]


def one(declared: str, modelled: TypeEngine[Any], *rows: str) -> Case:
    """A key of one column."""
    return Case({"k": (declared, modelled)}, [f"CAST({row} AS {declared.partition(' COLLATE')[0]})" for row in rows])


WORDS = ["'a'", "'A'", "'b'", "'B'", "'ä'", "'Z'", "'z'", "'a b'", "'ab'", "''", "'-a'", "'𝄞'", "'a''b'", r"'a\b'"]

CASES = {
    "bigint under a narrower model": one(
        "bigint", Integer(), "-9223372036854775808", "-2147483649", "-1", "0", "2147483648", "9223372036854775807"
    ),
    "smallint": one("smallint", Integer(), "-32768", "0", "32767"),
    "boolean": one("boolean", Integer(), "false", "true"),
    "text": one("text", String(), *WORDS),
    "varchar of a shorter model": one("varchar", String(1), *WORDS),
    "text COLLATE C": one('text COLLATE "C"', String(), *WORDS),
    "text COLLATE linguistic": one("text COLLATE linguistic", String(), *WORDS),
    "char": one("char(4)", String(), "'a'", r"E'a\t'", "'a b'", "'ab'", "''"),
    "citext": one("citext", String(), "'a'", "'B'", "'c'", "'D'", "'ä'", "'_'"),
    "enumeration": one("mood", EnumType(Mood), "'wild'", "'blue'", "'calm'"),
    "enumeration as text": one("mood", String(), "'wild'", "'blue'", "'calm'"),
    "uuid": one("uuid", Uuid(), *(f"'{digit}0000000-0000-4000-8000-00000000000{digit}'" for digit in "0179af")),
    "timestamptz": one(
        "timestamptz",
        UTCDateTime(),
        *(f"'{moment}'" for moment in ("0001-01-01 00:00:00+00", "2024-03-31 02:30:00.000001+02")),
        *(f"'2024-03-31 00:30:00.{micro:06}+00'" for micro in (2, 3, 999_999)),
        "'9999-12-31 00:00:00+00'",
    ),
    "timestamp": one(
        "timestamp", DateTime(), *(f"'2024-03-31 02:30:00.{micro:06}'" for micro in (0, 1, 2, 999_998, 999_999))
    ),
    "timestamp under a model with zones": one(
        "timestamp", UTCDateTime(), *(f"'2024-03-31 02:30:00.{micro:06}'" for micro in (0, 1, 2, 999_998, 999_999))
    ),
    "date": one("date", Date(), "'-infinity'", "'0001-01-01'", "'1969-12-31'", "'9999-12-31'", "'infinity'"),
    "time": one("time", Time(), "'00:00'", "'00:00:00.000001'", "'23:59:59.999999'"),
    "time with time zone": one(
        "timetz", Time(timezone=True), "'12:00+02'", "'12:00+01'", "'10:00+00'", "'12:00:01+02'"
    ),
    "the end of time": Case(
        {"until": ("date", Date()), "number": ("int", Integer())},
        [f"'{day}', {number}" for day in ("9999-12-31", "infinity", "2024-01-01") for number in (1, 2)],
    ),
    "interval": one("interval", Interval(), "'-1 day'", "'29 days'", "'1 mon'", "'31 days'", "'12 mon 1 day'"),
    "numeric under a rounder model": one(
        "numeric(30,10)", Numeric(12, 2), "-99999999999999999999", "0.0000000001", "0.0000000002", "0.01", "1"
    ),
    "numeric": one("numeric", Numeric(), "'-Infinity'", "-1e-200", "0", "1e-200", "1e200", "'Infinity'"),
    "double precision": one(
        "float8", Float(), "'-Infinity'", "-1e308", "-5e-324", "0.1", "0.1000000000000001", "'Infinity'"
    ),
    "real": one("real", Float(), "0.1", "0.2", "0.3", "16777216", "1e38"),
    "bytea": one("bytea", LargeBinary(), r"'\x'", r"'\x00'", r"'\x0000'", r"'\x7f'", r"'\x80'", r"'\xff00'"),
    "inet": one("inet", String(), "'10.0.0.1'", "'10.0.0.1/8'", "'9.0.0.0/8'", "'::1'"),
    "array": one("integer[]", ARRAY(Integer), "'{}'", "'{1}'", "'{1,2}'", "'{10}'", "'{2}'"),
    "mixed": Case(
        {
            "region": ("text COLLATE linguistic", String()),
            "day": ("timestamptz", UTCDateTime()),
            "amount": ("numeric(20,6)", Numeric(10, 2)),
        },
        [
            f"'{region}', CAST('2024-01-01 00:00:00.{micro:06}+00' AS timestamptz), {amount}"
            for region in ("a", "B", "ä")
            for micro in (1, 2)
            for amount in ("-0.000001", "0.000001")
        ],
    ),
}

LINGUISTIC = text("SELECT collname FROM pg_collation WHERE collname IN ('en-x-icu', 'pg_unicode_fast') ORDER BY 1")
"""Not in the order of bytes where the server has ICU; the other is what a server without it has beside C."""

MET = Table("met", MetaData(), Column("place", Integer, primary_key=True), Column("n", Integer))
"""Which rows were met, in their order."""

Make = Callable[[Case], Awaitable[Table]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of one row, so that each row is a boundary."""
    return settings.model_copy(update={"chunk_start_rows": 1, "chunk_min_rows": 1, "chunk_max_rows": 1})


@pytest.fixture
async def make(database: Database) -> Make:
    """A function that makes the table of a case."""

    async def make_table(case: Case) -> Table:
        declared = ", ".join(f"{name} {type_} NOT NULL" for name, (type_, _) in case.columns.items())
        async with database.engine.begin() as connection:
            known = (await connection.execute(LINGUISTIC)).scalars().first()
            assert known is not None, "neither ICU nor the builtin provider"
            provider = "icu, locale = 'en'" if known == "en-x-icu" else "builtin, locale = 'PG_UNICODE_FAST'"
            await connection.execute(text(f"CREATE COLLATION linguistic (provider = {provider})"))
            await connection.execute(text("CREATE TYPE mood AS ENUM ('wild', 'blue', 'calm')"))
            if "citext" in declared:
                has = text("SELECT 1 FROM pg_available_extensions WHERE name = 'citext'")
                if (await connection.execute(has)).first() is None:
                    pytest.skip("this server lacks the extension citext")
                await connection.execute(text("CREATE EXTENSION citext"))
            names = ", ".join(case.columns)
            await connection.execute(text(f"CREATE TABLE keyed ({declared}, n int NOT NULL, PRIMARY KEY ({names}))"))
            await connection.execute(text("CREATE TABLE met (place serial PRIMARY KEY, n int NOT NULL)"))
            for n, row in enumerate(case.rows):
                await connection.exec_driver_sql(f"INSERT INTO keyed VALUES ({row}, {n})")
        keys = [Column(name, modelled, primary_key=True) for name, (_, modelled) in case.columns.items()]
        return Table("keyed", MetaData(), *keys, Column("n", Integer))

    return make_table


def jobs_of(table: Table, key: Sequence[str] | None = None) -> Registry:
    """Jobs that note which rows they meet, in their order: one for each way to walk; by the primary key unless told."""
    found = Registry()
    mapped: Any = type("Keyed", (), {})
    registry().map_imperatively(mapped, table)
    names = key or [column.key for column in table.primary_key]
    keys = tuple(getattr(mapped, name) for name in names)

    @job(registry=found)
    async def chunks(ctx: JobContext) -> int:
        async for chunk in ctx.chunks(select_model(mapped), key=keys):
            await ctx.tools.execute(insert(MET).values([{"n": row.n} for row in chunk.rows]))
        return ctx.progress.done

    @job(registry=found)
    async def spans(ctx: JobContext) -> int:
        facts = await ctx.tools.table_facts(table)
        async for span in ctx.spans(primary_walk(table, facts), true()):
            assert await ctx.tools.lock_span(span, keys_stay=True) == 1
            await ctx.tools.execute(insert(MET).from_select(["n"], select(table.c.n).where(span.condition)))
        return ctx.progress.done

    @job(registry=found)
    async def stream(ctx: JobContext) -> int:
        async for chunk in ctx.stream(select(table), key=tuple(table.c[name] for name in names)):
            await ctx.tools.execute(insert(MET).values([{"n": row.n} for row in chunk.rows]))
        return ctx.progress.done

    return found


async def run_to_end(plain: Runner, jobs: Registry, name: str) -> tuple[Outcome, int]:
    """Run a job, interrupted after each chunk; its outcome, and how often it was interrupted."""
    interruptions = 0
    while True:
        stop = StopSignal()
        runner = replace(plain, registry=jobs, stop=stop, emit=partial(stop_after_chunk, stop))
        outcome = await runner.run(Delivery(name, name, {}, {}, "arq:queue", 1))
        if not isinstance(outcome, Interrupted):
            return outcome, interruptions
        interruptions += 1


def stop_after_chunk(stop: StopSignal, event: Event) -> None:
    """Ask a worker to stop once a chunk is committed."""
    if isinstance(event, ChunkCommitted):
        stop.set()


@pytest.mark.parametrize("name", CASES)
async def test_each_row_once_however_often_interrupted(
    make: Make, make_runner: MakeRunner, database: Database, name: str
) -> None:
    """Each kind of walk, interrupted after each row, meets each row once and in the order of the table."""
    case = CASES[name]
    table = await make(case)
    runner, jobs = make_runner(), jobs_of(table)
    # a model of an array's key has no place in a session: such rows are streamed, or walked by span
    for way in ("spans", "stream") if name == "array" else ("spans", "stream", "chunks"):
        outcome, interruptions = await run_to_end(runner, jobs, way)
        assert (way, outcome, interruptions) == (way, Succeeded(len(case.rows)), len(case.rows))
        async with database.engine.begin() as connection:
            in_order = await connection.execute(select(table.c.n).order_by(*table.primary_key))
            met = await connection.execute(select(MET.c.n).order_by(MET.c.place))
            assert met.scalars().all() == in_order.scalars().all()
            await connection.execute(delete(MET))


@dataclass(frozen=True)
class Shape:
    """A table `keyed` of two columns, `a` and `b`, and a key by which it is walked.

    Attributes:
        ddl: what follows the columns, or is done to the table.
        key: the names of the key's columns.
        said: a part of the refusal; None where the walk is sound.
    """

    ddl: str
    key: tuple[str, ...]
    said: str | None


SHAPES = {
    "nothing unique": Shape("", ("a",), "Several rows of table 'keyed' may share one key (a)"),
    "unique with more": Shape("CREATE UNIQUE INDEX ON keyed (a, b)", ("a",), "Several rows"),
    "unique over an expression": Shape("CREATE UNIQUE INDEX ON keyed (abs(a))", ("a",), "Several rows"),
    "an index not unique": Shape("CREATE INDEX ON keyed (a)", ("a",), "Several rows"),
    "unique": Shape("CREATE UNIQUE INDEX ON keyed (a)", ("a",), None),
    "unique within": Shape("CREATE UNIQUE INDEX ON keyed (a)", ("b", "a"), None),
    "unique, including another": Shape("CREATE UNIQUE INDEX ON keyed (a) INCLUDE (b)", ("a",), None),
    "unique for some rows": Shape("CREATE UNIQUE INDEX ON keyed (a) WHERE b > 0", ("a",), None),
    "unique in the end": Shape("ALTER TABLE keyed ADD UNIQUE (a) DEFERRABLE", ("a",), None),
    "a view": Shape("ALTER TABLE keyed RENAME TO base; CREATE VIEW keyed AS SELECT * FROM base", ("a",), None),
    "null": Shape(
        "CREATE UNIQUE INDEX ON keyed (a); UPDATE keyed SET a = NULL WHERE a = 2", ("a",), "NULL in their key"
    ),
    "null beside": Shape(
        "CREATE UNIQUE INDEX ON keyed (a); UPDATE keyed SET b = NULL WHERE a = 2",
        ("a", "b"),
        "NULL in their key (a, b)",
    ),
}


@pytest.mark.parametrize("way", ["chunks", "stream"])
@pytest.mark.parametrize("name", SHAPES)
async def test_a_key_that_would_skip_rows_is_refused(
    make_runner: MakeRunner, database: Database, name: str, way: str
) -> None:
    """A key that several rows may share, or that is NULL in some, is refused before the first chunk, and no other."""
    shape = SHAPES[name]
    async with database.engine.begin() as connection:
        for statement in (
            "CREATE TABLE met (place serial PRIMARY KEY, n int NOT NULL)",
            "CREATE TABLE keyed AS SELECT n AS a, n AS b, n FROM generate_series(1, 3) AS n",
            *(shape.ddl.split("; ") if shape.ddl else ()),
        ):
            await connection.execute(text(statement))
    # what a model says of its key is not what is asked: the mapper wants one, and this one is only said to be
    table = Table("keyed", MetaData(), *(Column(part, Integer, primary_key=part in shape.key) for part in "abn"))
    outcome = await replace(make_runner(), registry=jobs_of(table, shape.key)).run(
        Delivery("k", way, {}, {}, "arq:queue", 1)
    )
    if shape.said is None:
        assert outcome == Succeeded(3)
    else:
        assert isinstance(outcome, Failed)
        assert outcome.error.type == "UnorderedKeyError"
        assert shape.said in outcome.error.message


async def test_rows_without_a_place_may_be_left_out(make: Make, make_runner: MakeRunner, database: Database) -> None:
    """A query that leaves the rows with NULL in their key out can be walked by it."""
    await make(one("int", Integer(), "1", "2"))
    async with database.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE keyed DROP CONSTRAINT keyed_pkey, ALTER k DROP NOT NULL"))
        await connection.execute(text("CREATE UNIQUE INDEX ON keyed (k)"))
        await connection.execute(text("INSERT INTO keyed VALUES (NULL, 3), (NULL, 4)"))
    table = Table("keyed", MetaData(), Column("k", Integer), Column("n", Integer))
    found = Registry()

    @job(registry=found)
    async def sound(ctx: JobContext) -> int:
        async for _ in ctx.stream(select(table).where(table.c.k.is_not(None)), key=table.c.k):
            pass
        return ctx.progress.done

    outcome, interruptions = await run_to_end(make_runner(), found, "sound")
    assert (outcome, interruptions) == (Succeeded(2), 2)
