"""Walks by keys of every ordered type: each row is met once, in the database's own order, interrupted or not."""

from collections.abc import Sequence
from typing import Final

import pytest
from sqlalchemy import (
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
    text,
    true,
)

from tests.conftest import MakeRunner
from worker import JobContext, RegisteredTable, Registry, Tables, job, primary_walk
from worker.core.outcomes import Failed, Interrupted, Succeeded
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database
from worker.run.runner import Runner

WALKS = Registry()
ROWS: Final = 60

MIXED_TEXT: Final = "(ARRAY['a', 'B', 'é', 'z', 'Ä', 'ß'])[n % 6 + 1] || chr(64 + n / 6)"

# What the model says first, then what the database really has: they need not agree.
KEYS: Final[dict[str, tuple[Sequence[Column[object]], str, str]]] = {
    "bigint": ([Column("k", BigInteger)], "k bigint PRIMARY KEY", "n * CAST(1000000007 AS bigint)"),
    "bigint_in_a_model_of_integer": ([Column("k", Integer)], "k bigint PRIMARY KEY", "n * CAST(1000000007 AS bigint)"),
    "smallint": ([Column("k", SmallInteger)], "k smallint PRIMARY KEY", "n - 30"),
    "numeric": ([Column("k", Numeric(30, 10))], "k numeric(30,10) PRIMARY KEY", "n / 7.0 - 3"),
    "numeric_in_a_model_of_floats": (
        [Column("k", Numeric(asdecimal=False))],
        "k numeric PRIMARY KEY",
        "12345678901234567890 + n / 7.0",
    ),
    "uuid": ([Column("k", Uuid)], "k uuid PRIMARY KEY", "CAST(md5(CAST(n AS text)) AS uuid)"),
    "uuid_as_text": ([Column("k", Uuid(as_uuid=False))], "k uuid PRIMARY KEY", "CAST(md5(CAST(n AS text)) AS uuid)"),
    "date": ([Column("k", Date)], "k date PRIMARY KEY", "DATE '2024-02-01' + n"),
    "moments_with_microseconds": (
        [Column("k", DateTime(timezone=True))],
        "k timestamptz PRIMARY KEY",
        "TIMESTAMPTZ '2024-03-31 00:59:59.999970Z' + n * interval '1 microsecond'",
    ),
    "moments_with_a_zone_that_the_model_lacks": (
        [Column("k", DateTime)],
        "k timestamptz PRIMARY KEY",
        "TIMESTAMPTZ '2024-03-31 00:59:59.999970Z' + n * interval '1 microsecond'",
    ),
    "moments_without_the_zone_of_the_model": (
        [Column("k", DateTime(timezone=True))],
        "k timestamp PRIMARY KEY",
        "TIMESTAMP '2024-03-31 00:59:59.999970' + n * interval '1 microsecond'",
    ),
    "text_in_c": ([Column("k", String)], 'k text COLLATE "C" PRIMARY KEY', "chr(64 + n) || n"),
    "text_in_unicode_order": ([Column("k", String)], "k varchar(40) COLLATE {unicode} PRIMARY KEY", MIXED_TEXT),
    "padded_text": ([Column("k", String)], "k char(5) PRIMARY KEY", "CAST(n AS text)"),
    "several": (
        [Column("a", String), Column("b", DateTime(timezone=True)), Column("c", Integer)],
        'a text COLLATE "C", b timestamptz, c bigint, PRIMARY KEY (a, b, c)',
        "(ARRAY['b', 'A', 'ä'])[n % 3 + 1], TIMESTAMPTZ '2024-01-01Z' + n / 10 * interval '1 us', n * 5000000000",
    ),
}


@job(registry=WALKS)
async def visit(ctx: JobContext) -> list[str]:
    """Note down each row's number, in the order in which rows are met."""
    table = ctx.tables.get("parcel").table
    walk = primary_walk(table, await ctx.tools.table_facts(table))
    async for span in ctx.spans(walk, true()):
        rows = await ctx.tools.execute(walk.keys().where(span.condition))
        seen = span.keep.get("seen", [])
        assert isinstance(seen, list)
        span.keep["seen"] = [*seen, *("|".join(map(str, row)) for row in rows)]
    seen = ctx.kept["seen"]
    assert isinstance(seen, list)
    return seen


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of seven rows, always, so that a span's edge falls anywhere."""
    return settings.model_copy(update={"chunk_start_rows": 7, "chunk_min_rows": 7, "chunk_max_rows": 7})


async def make_table(database: Database, columns: str, values: str) -> None:
    """Create the table of a test in the database and fill it."""
    async with database.engine.begin() as connection:
        # ICU's where the server has it; version 18 has one of its own
        unicode = await connection.execute(
            text(
                "SELECT quote_ident(collname) FROM pg_collation WHERE collname IN ('und-x-icu', 'pg_unicode_fast') "
                "ORDER BY collprovider DESC LIMIT 1"
            )
        )
        declared = columns.format(unicode=unicode.scalar_one())
        await connection.execute(text(f"CREATE TABLE parcel ({declared})"))
        await connection.execute(text(f"INSERT INTO parcel SELECT {values} FROM generate_series(1, {ROWS}) AS n"))


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


async def walk_to_the_end(make_runner: MakeRunner, table: Table) -> list[str]:
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


@pytest.mark.parametrize("kind", KEYS)
async def test_every_row_is_met_once_in_order(make_runner: MakeRunner, database: Database, kind: str) -> None:
    """A walk that is interrupted after every chunk meets the rows as one ordered query lists them."""
    columns, declared, values = KEYS[kind]
    table = Table("parcel", MetaData(), *(column._copy() for column in columns))
    await make_table(database, declared, values)
    seen = await walk_to_the_end(make_runner, table)
    async with database.engine.connect() as connection:
        shown = ", ".join(f"CAST({column.name} AS text)" for column in columns)
        order = ", ".join(f"parcel.{column.name}" for column in columns)
        listed = await connection.exec_driver_sql(f"SELECT {shown} FROM parcel ORDER BY {order}")
        # Python writes a zero of many digits in another way
        assert [row.replace("0E-10", "0.0000000000") for row in seen] == ["|".join(row) for row in listed]


async def test_text_that_compares_without_regard_to_case(make_runner: MakeRunner, database: Database) -> None:
    """A key of citext in a model of plain text is compared as citext, not as the text that the model says."""
    async with database.engine.begin() as connection:
        found = await connection.execute(text("SELECT 1 FROM pg_available_extensions WHERE name = 'citext'"))
        if found.first() is None:
            pytest.skip("this server came without the extension citext")
        await connection.execute(text("CREATE EXTENSION citext"))
    await make_table(database, "k citext PRIMARY KEY", MIXED_TEXT)
    seen = await walk_to_the_end(make_runner, Table("parcel", MetaData(), Column("k", String)))
    async with database.engine.connect() as connection:
        listed = await connection.execute(text("SELECT CAST(k AS text) FROM parcel ORDER BY parcel.k"))
        assert seen == list(listed.scalars())


async def test_a_cursor_of_another_order_is_refused(make_runner: MakeRunner, database: Database) -> None:
    """A run whose table got another primary key meanwhile fails; it does not skip rows."""
    table = Table("parcel", MetaData(), Column("a", Integer), Column("b", Integer))
    await make_table(database, "a int PRIMARY KEY, b int NOT NULL", "n, 100 - n")
    assert (
        await one_chunk_of(walking(make_runner, table)).run(Delivery("w", "visit", {}, {}, "arq:queue", 1))
        == Interrupted()
    )
    async with database.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE parcel DROP CONSTRAINT parcel_pkey, ADD PRIMARY KEY (b)"))
    outcome = await walking(make_runner, table).run(Delivery("w", "visit", {}, {}, "arq:queue", 1))
    assert isinstance(outcome, Failed)
    assert "walked table 'parcel' by (a), and is now to walk it by (b)" in outcome.error.message
