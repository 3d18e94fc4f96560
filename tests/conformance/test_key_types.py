"""Keys of every type with an order: each row is met once, in the table's own order, whatever interrupts the walk."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, delete, insert, select, text, true
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import registry
from sqlmodel import select as select_model

from tests.conftest import MakeRunner
from tests.support.chosen import Backend
from tests.support.key_samples import CASES, Case
from tests.support.own_session import execute, put
from worker import JobContext, Registry, job, primary_walk
from worker.core.events import ChunkCommitted, Event
from worker.core.outcomes import Failed, Interrupted, Outcome, Succeeded
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database
from worker.run.runner import Runner
from worker.run.stop_signal import StopSignal

LINGUISTIC = text("SELECT collname FROM pg_collation WHERE collname IN ('en-x-icu', 'pg_unicode_fast') ORDER BY 1")
"""Not in the order of bytes where the server has ICU; the other is what a server without it has beside C."""

MET = Table("met", MetaData(), Column("place", Integer, primary_key=True), Column("n", Integer, nullable=False))
"""Which rows were met, in their order."""

Make = Callable[[Case], Awaitable[Table]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of one row, so that each row is a boundary."""
    return settings.model_copy(update={"chunk_start_rows": 1, "chunk_min_rows": 1, "chunk_max_rows": 1})


@pytest.fixture
async def met(database: Database) -> None:
    """The table of the rows that were met."""
    async with database.engine.begin() as connection:
        await connection.run_sync(MET.create)


@pytest.fixture
def make(database: Database, backend: Backend, met: None) -> Make:  # noqa: ARG001 - that it is there
    """A function that makes the table of a case."""

    async def make_table(case: Case) -> Table:
        declared = ", ".join(f"{name} {type_} NOT NULL" for name, (type_, _) in case.columns.items())
        async with database.engine.begin() as connection:
            if backend == "postgresql":
                await make_types(connection, declared)
            names = ", ".join(case.columns)
            await connection.execute(text(f"CREATE TABLE keyed ({declared}, n int NOT NULL, PRIMARY KEY ({names}))"))
            for n, row in enumerate(case.rows):
                await connection.exec_driver_sql(f"INSERT INTO keyed VALUES ({row}, {n})")
        keys = [Column(name, modelled, primary_key=True) for name, (_, modelled) in case.columns.items()]
        return Table("keyed", MetaData(), *keys, Column("n", Integer))

    return make_table


async def make_types(connection: AsyncConnection, declared: str) -> None:
    """Make the types and collations of PostgreSQL's that the cases name."""
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


@pytest.mark.samples("name", CASES)
async def test_each_row_once_however_often_interrupted(
    make: Make, make_runner: MakeRunner, database: Database, backend: Backend, name: str
) -> None:
    """Each kind of walk, interrupted after each row, meets each row once and in the order of the table."""
    case = CASES[backend][name]
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


EVERYWHERE: Final = {
    "nothing unique": Shape("", ("a",), "Several rows of table 'keyed' may share one key (a)"),
    "unique with more": Shape("CREATE UNIQUE INDEX u ON keyed (a, b)", ("a",), "Several rows"),
    "an index not unique": Shape("CREATE INDEX u ON keyed (a)", ("a",), "Several rows"),
    "unique": Shape("CREATE UNIQUE INDEX u ON keyed (a)", ("a",), None),
    "unique within": Shape("CREATE UNIQUE INDEX u ON keyed (a)", ("b", "a"), None),
    "a view": Shape("ALTER TABLE keyed RENAME TO base; CREATE VIEW keyed AS SELECT * FROM base", ("a",), None),
    "null": Shape(
        "CREATE UNIQUE INDEX u ON keyed (a); UPDATE keyed SET a = NULL WHERE a = 2", ("a",), "NULL in their key"
    ),
    "null beside": Shape(
        "CREATE UNIQUE INDEX u ON keyed (a); UPDATE keyed SET b = NULL WHERE a = 2",
        ("a", "b"),
        "NULL in their key (a, b)",
    ),
}
OVER_SOME: Final = {
    "unique over an expression": Shape("CREATE UNIQUE INDEX u ON keyed (abs(a))", ("a",), "Several rows"),
    "unique for some rows": Shape("CREATE UNIQUE INDEX u ON keyed (a) WHERE b > 0", ("a",), None),
}
SHAPES: Final[Mapping[Backend, Mapping[str, Shape]]] = {
    "postgresql": {
        **EVERYWHERE,
        **OVER_SOME,
        "unique, including another": Shape("CREATE UNIQUE INDEX u ON keyed (a) INCLUDE (b)", ("a",), None),
        "unique in the end": Shape("ALTER TABLE keyed ADD UNIQUE (a) DEFERRABLE", ("a",), None),
    },
    "sqlite": {**EVERYWHERE, **OVER_SOME},
    "mariadb": EVERYWHERE,
}
"""By database: MariaDB has no indexes over expressions or some rows, and only PostgreSQL has the last two."""


@pytest.mark.parametrize("way", ["chunks", "stream"])
@pytest.mark.samples("name", SHAPES)
@pytest.mark.usefixtures("met")
async def test_a_key_that_would_skip_rows_is_refused(
    make_runner: MakeRunner, database: Database, backend: Backend, name: str, way: str
) -> None:
    """A key that several rows may share, or that is NULL in some, is refused before the first chunk, and no other."""
    shape = SHAPES[backend][name]
    await execute(
        database,
        "CREATE TABLE keyed (a int, b int, n int)",
        "INSERT INTO keyed VALUES (1, 1, 1), (2, 2, 2), (3, 3, 3)",
        *(shape.ddl.split("; ") if shape.ddl else ()),
    )
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


async def test_rows_without_a_place_may_be_left_out(make_runner: MakeRunner, database: Database) -> None:
    """A query that leaves the rows with NULL in their key out can be walked by it."""
    table = Table("keyed", MetaData(), Column("k", Integer, unique=True), Column("n", Integer))
    async with database.engine.begin() as connection:
        await connection.run_sync(table.create)
    await put(database, table, [{"k": k, "n": n} for n, k in enumerate((1, 2, None, None))])
    found = Registry()

    @job(registry=found)
    async def sound(ctx: JobContext) -> int:
        async for _ in ctx.stream(select(table).where(table.c.k.is_not(None)), key=table.c.k):
            pass
        return ctx.progress.done

    outcome, interruptions = await run_to_end(make_runner(), found, "sound")
    assert (outcome, interruptions) == (Succeeded(2), 2)
