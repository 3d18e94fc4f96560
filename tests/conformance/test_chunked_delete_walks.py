"""Which way a delete walks its table: along an index that leads to few rows, and the same way after an interruption."""

from collections.abc import Sequence
from typing import Any, Final

import pytest
from sqlalchemy import Column, Date, DateTime, Integer, MetaData, String, Table, Uuid
from sqlalchemy.types import TypeEngine

from tests.conftest import MakeRunner
from tests.support.deleting import (
    COLUMNS,
    before_statements,
    delete,
    delete_runner,
    execute,
    one_chunk_of,
    record_of,
    result_of,
    rows_of,
)
from worker.core.outcomes import Interrupted
from worker.core.settings import Settings
from worker.database.engine import Database
from worker.run.runner import Runner

ROWS: Final = 20_000


def oldest(count: int, rows: int = ROWS) -> dict[str, object]:
    """A condition for so many of the oldest rows, which are a minute apart from each other."""
    return {"created_at": {"older_than": f"{rows - count}m"}}


OLDEST: Final = oldest(100)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of a thousand rows, always."""
    return settings.model_copy(update={"chunk_start_rows": 1000, "chunk_min_rows": 1000, "chunk_max_rows": 1000})


async def make_rows(
    database: Database, *indexes: str, rows: int = ROWS, created: str = "now() - (n - 0.5) * interval '1 minute'"
) -> None:
    """Fill a table of events, a few of them without a time, and create indexes."""
    await execute(
        database,
        f"CREATE TABLE event ({COLUMNS})",
        # keys are in no order of time
        f"INSERT INTO event SELECT n * 7919 % 100003, 'k' || n % 10, {created}, n FROM generate_series(1, {rows}) AS n",
        "INSERT INTO event (id) SELECT 200000 + n FROM generate_series(1, 50) AS n",
        *indexes,
        "ANALYZE event",
    )


async def walked_by(runner: Runner) -> Sequence[object]:
    """The columns that a run's cursor is about."""
    cursor = (await record_of(runner)).cursor
    assert cursor is not None
    order = cursor["order"]
    assert isinstance(order, list)
    return order


async def chunks_of(database: Database) -> object:
    """How many chunks the run took."""
    return (await rows_of(database, "SELECT chunk FROM heavylift_progress"))[0][0]


@pytest.mark.parametrize("index", ["(created_at)", "(created_at DESC)", "(created_at, id)", "(created_at, kind)"])
async def test_few_rows_take_few_chunks(make_runner: MakeRunner, database: Database, index: str) -> None:
    """Of a hundred thousand rows a hundred are old: one chunk of them is walked along the index on their age."""
    await make_rows(database, f"CREATE INDEX ON event {index}", rows=100_000)
    runner = delete_runner(make_runner)
    assert result_of(await delete(runner, where=oldest(100, 100_000))) == {"deleted": 100, "archived": 0}
    assert await walked_by(runner) == ["created_at", "id"]
    assert await chunks_of(database) == 1
    assert await rows_of(database, "SELECT count(*), count(created_at) FROM event") == [(99_950, 99_900)]


async def test_no_statement_of_a_chunk_reads_the_whole_table(make_runner: MakeRunner, database: Database) -> None:
    """Finding a span's edge, locking and deleting are all planned along the index on the rows' age."""
    await make_rows(database, "CREATE INDEX by_age ON event (created_at)")
    runner = delete_runner(make_runner)
    sent: list[tuple[str, Sequence[object]]] = []
    async with before_statements(runner, lambda statement, values: sent.append((statement, values))):
        await delete(runner, where=OLDEST)
    async with database.engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        plans = [
            "\n".join(row[0] for row in await driver.fetch(f"EXPLAIN {statement}", *values))
            for statement, values in sent
            if " event" in statement and statement.startswith(("SELECT", "DELETE"))
        ]
    # the end of the walk, the only span's edge, its rows locked, and deleted, and then no more edges
    assert len(plans) == 5
    for plan in plans:
        assert "by_age" in plan
        assert "Seq Scan" not in plan


async def test_a_resumed_run_goes_the_same_way(make_runner: MakeRunner, database: Database, settings: Settings) -> None:
    """What the planner thinks by then does not matter: the cursor says by which columns the run walks."""
    await make_rows(database, "CREATE INDEX by_age ON event (created_at)")
    where = oldest(900)
    shorter = settings.model_copy(update={"chunk_start_rows": 100, "chunk_min_rows": 100})
    assert await delete(one_chunk_of(delete_runner(make_runner, changed=shorter)), where=where) == Interrupted()
    await execute(database, "DROP INDEX by_age")
    runner = delete_runner(make_runner)
    assert result_of(await delete(runner, where=where)) == {"deleted": 900, "archived": 0}
    assert await walked_by(runner) == ["created_at", "id"]
    assert await rows_of(database, "SELECT count(created_at) FROM event") == [(ROWS - 900,)]


async def test_rows_of_one_moment_are_told_apart(
    make_runner: MakeRunner, database: Database, settings: Settings
) -> None:
    """A walk along an index meets rows that share a value once each, whichever side of a span's edge they are on."""
    # 70 rows of each moment, and chunks of a hundred
    await make_rows(
        database, "CREATE INDEX ON event (created_at)", created="now() - ceil(n / 70.0) * interval '1 hour'"
    )
    runner = delete_runner(
        make_runner,
        changed=settings.model_copy(update={"chunk_start_rows": 100, "chunk_min_rows": 100, "chunk_max_rows": 100}),
    )
    assert result_of(await delete(runner, where={"created_at": {"older_than": "275h30m"}})) == {
        "deleted": 750,
        "archived": 0,
    }
    assert await walked_by(runner) == ["created_at", "id"]
    assert await chunks_of(database) == 8
    assert await rows_of(database, "SELECT count(created_at) FROM event") == [(ROWS - 750,)]


PRIMARY: Final[dict[str, tuple[tuple[str, ...], dict[str, object], int]]] = {
    "many_rows_match": (("CREATE INDEX ON event (created_at)",), {"created_at": {"older_than": "10000m"}}, 21),
    "no_index": ((), OLDEST, 21),
    "a_partial_index": (("CREATE INDEX ON event (created_at) WHERE kind = 'k1'",), OLDEST, 21),
    "an_index_that_starts_elsewhere": (("CREATE INDEX ON event (kind, created_at)",), OLDEST, 21),
    "an_index_of_no_order": (("CREATE INDEX ON event USING brin (created_at)",), OLDEST, 21),
    "one_of_two": (
        ("CREATE INDEX ON event (created_at)",),
        {"or": [OLDEST, {"id": {"eq": 5}}]},
        21,
    ),
    "many_rows_of_one_value": (("CREATE INDEX ON event (kind)",), {"kind": {"eq": "k1"}, "amount": {"lt": 100}}, 21),
    "a_range_of_the_key": (("CREATE INDEX ON event (created_at)",), {"id": {"le": 20000}}, 4),
    "a_smaller_range_of_the_key": (("CREATE INDEX ON event (created_at)",), {"id": {"le": 50}, **OLDEST}, 1),
}


@pytest.mark.parametrize("kind", PRIMARY)
async def test_otherwise_it_walks_by_the_primary_key(make_runner: MakeRunner, database: Database, kind: str) -> None:
    """Where no index leads to few rows the primary key does, over the range of it that the condition names."""
    indexes, where, chunks = PRIMARY[kind]
    await make_rows(database, *indexes)
    meant = await rows_of(database, f"SELECT count(*) FROM event WHERE {as_sql(where)}")
    runner = delete_runner(make_runner)
    assert result_of(await delete(runner, where=where)) == {"deleted": meant[0][0], "archived": 0}
    cursor = (await record_of(runner)).cursor
    assert cursor is None or cursor["order"] == ["id"]
    assert await chunks_of(database) == chunks


def as_sql(where: dict[str, object]) -> str:
    """The conditions that this module uses, as a person would write them in SQL."""
    parts = []
    for name, asked in where.items():
        if name == "or":
            assert isinstance(asked, list)
            parts.append("(" + " OR ".join(map(as_sql, asked)) + ")")
            continue
        assert isinstance(asked, dict)
        ((operator, value),) = asked.items()
        sign = {"le": "<=", "lt": "<", "eq": "="}.get(operator)
        age = f"{name} < now() - interval '{str(value)[:-1]} minutes'"
        parts.append(f"{name} {sign} '{value}'" if sign else age)
    return " AND ".join(parts)


LEADS: Final[dict[str, tuple[str, str, dict[str, object], str]]] = {
    "uuid": (
        "uuid",
        "CAST(md5(CAST(n AS text)) AS uuid)",
        {"lt": "00800000-0000-0000-0000-000000000000"},
        "lead < '00800000-0000-0000-0000-000000000000'",
    ),
    "date": ("date", "DATE '2000-01-01' + n", {"lt": "2000-02-20"}, "lead < '2000-02-20'"),
    "bigint": (
        "bigint",
        "n * CAST(10000000000 AS bigint)",
        {"between": [10_000_000_000, 500_000_000_000]},
        "lead BETWEEN 10000000000 AND 500000000000",
    ),
    "text": (
        'text COLLATE "C"',
        "'k' || lpad(CAST(n AS text), 9, '0')",
        {"gt": "k000019900"},
        "lead > 'k000019900'",
    ),
    "moment": (
        "timestamp",
        "TIMESTAMP '2024-01-01' + n * interval '1 us'",
        {"lt": "2024-01-01T00:00:00.000090Z"},
        "lead < '2024-01-01 00:00:00.000090'",
    ),
}
TYPES: Final[dict[str, TypeEngine[Any]]] = {
    "uuid": Uuid(),
    "date": Date(),
    "bigint": Integer(),
    "text": String(),
    "moment": DateTime(timezone=True),
}


@pytest.mark.parametrize("kind", LEADS)
async def test_columns_of_every_ordered_type(make_runner: MakeRunner, database: Database, kind: str) -> None:
    """An index on a date, a UUID, a large number or a text leads a walk as well as one on a moment."""
    type_, value, bound, plain = LEADS[kind]
    await execute(
        database,
        f"CREATE TABLE parcel (id int PRIMARY KEY, lead {type_})",
        f"INSERT INTO parcel SELECT 20001 - n, {value} FROM generate_series(1, 20000) AS n",
        "CREATE INDEX ON parcel (lead)",
        "ANALYZE parcel",
    )
    parcel = Table("parcel", MetaData(), Column("id", Integer, primary_key=True), Column("lead", TYPES[kind]))
    meant = (await rows_of(database, f"SELECT count(*) FROM parcel WHERE {plain}"))[0][0]
    assert meant
    runner = delete_runner(make_runner, parcel)
    outcome = await delete(runner, table="parcel", where={"lead": bound})
    assert result_of(outcome) == {"deleted": meant, "archived": 0}
    assert await walked_by(runner) == ["lead", "id"]
    assert await rows_of(database, f"SELECT count(*) FROM parcel WHERE {plain}") == [(0,)]
