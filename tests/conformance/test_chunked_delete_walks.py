"""Which way a delete walks its table: along an index that leads to few rows, and the same way after an interruption."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from hashlib import md5
from typing import Any, Final
from uuid import UUID

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Date,
    DateTime,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Uuid,
    func,
    select,
)
from sqlalchemy.types import TypeEngine

from tests.conftest import MakeRunner
from tests.support.chosen import Backend
from tests.support.column_types import WALL
from tests.support.deleting import (
    EVENT,
    before_statements,
    delete,
    delete_runner,
    one_chunk_of,
    record_of,
    result_of,
)
from tests.support.own_session import analyze, execute, put, rows_of, value_of
from tests.support.plans import plan_of, reads_all
from tests.support.spelling import Spelling
from worker.core.outcomes import Interrupted
from worker.core.settings import Settings
from worker.database.engine import Database
from worker.run.runner import Runner

ROWS: Final = 20_000


def oldest(count: int, rows: int = ROWS) -> dict[str, object]:
    """A condition for so many of the oldest rows, which are a minute apart from each other."""
    return {"created_at": {"older_than": f"{rows - count}m"}}


OLDEST: Final = oldest(100)
BY_AGE: Final = "CREATE INDEX by_age ON event (created_at)"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of a thousand rows, always."""
    return settings.model_copy(update={"chunk_start_rows": 1000, "chunk_min_rows": 1000, "chunk_max_rows": 1000})


async def make_rows(
    database: Database, spelling: Spelling, *indexes: str, rows: int = ROWS, seconds_ago: str = "(n - 0.5) * 60"
) -> None:
    """Fill a table of events, a few of them without a time, and create indexes."""
    async with database.engine.begin() as connection:
        await connection.run_sync(EVENT.create)
    kind, created = spelling.joined("'k'", "(n % 10)"), spelling.ago(seconds_ago)
    await execute(
        database,
        # keys are in no order of time
        "INSERT INTO event (id, kind, created_at, amount) "
        f"SELECT n * 7919 % 100003, {kind}, {created}, n FROM {spelling.numbers(1, rows)}",
        f"INSERT INTO event (id) SELECT n FROM {spelling.numbers(200_001, 200_050)}",
        *indexes,
    )
    await analyze(database, "event")


async def walked_by(runner: Runner) -> Sequence[object]:
    """The columns that a run's cursor is about."""
    cursor = (await record_of(runner)).cursor
    assert cursor is not None
    order = cursor["order"]
    assert isinstance(order, list)
    return order


async def chunks_of(database: Database) -> object:
    """How many chunks the run took."""
    return await value_of(database, "SELECT chunk FROM heavylift_progress")


@pytest.mark.parametrize(
    "index",
    [
        "(created_at)",
        pytest.param(
            "(created_at DESC)",
            marks=pytest.mark.only_on(
                "postgresql", "sqlite", why="MariaDB reads no index backwards where the key's rest goes forwards"
            ),
        ),
        "(created_at, id)",
        "(created_at, kind)",
    ],
)
async def test_few_rows_take_few_chunks(
    make_runner: MakeRunner, database: Database, spelling: Spelling, index: str
) -> None:
    """Of a hundred thousand rows a hundred are old: one chunk of them is walked along the index on their age."""
    await make_rows(database, spelling, f"CREATE INDEX by_age ON event {index}", rows=100_000)
    runner = delete_runner(make_runner)
    assert result_of(await delete(runner, where=oldest(100, 100_000))) == {"deleted": 100, "archived": 0}
    assert await walked_by(runner) == ["created_at", "id"]
    assert await chunks_of(database) == 1
    assert await rows_of(database, "SELECT count(*), count(created_at) FROM event") == [(99_950, 99_900)]


async def test_no_statement_of_a_chunk_reads_the_whole_table(
    make_runner: MakeRunner, database: Database, spelling: Spelling
) -> None:
    """Finding a span's edge, locking and deleting are all planned along the index on the rows' age."""
    await make_rows(database, spelling, BY_AGE)
    await execute(database, "CREATE TABLE earlier AS SELECT * FROM event")
    runner = delete_runner(make_runner)
    sent: list[tuple[str, Sequence[object]]] = []
    async with before_statements(runner, lambda statement, values: sent.append((statement, values))):
        await delete(runner, where=OLDEST)
    # what a plan is made for must be there
    await execute(database, "INSERT INTO event SELECT * FROM earlier WHERE id NOT IN (SELECT id FROM event)")
    plans = [
        await plan_of(database, statement, values)
        for statement, values in sent
        if "event.created_at" in statement and statement.startswith(("SELECT", "DELETE"))
    ]
    # the end of the walk, the only span's edge, its rows locked, and deleted, and then no more edges; before that, some
    # have to look how many rows are meant
    assert len(plans) in {5, 6}
    for plan in plans:
        # MariaDB has looked already whether there is such a row, by an index that leads to one
        assert "by_age" in plan or "no matching row in const table" in plan
        assert not reads_all(database, plan, "event")


async def test_a_resumed_run_goes_the_same_way(
    make_runner: MakeRunner, database: Database, settings: Settings, spelling: Spelling, backend: Backend
) -> None:
    """What the planner thinks by then does not matter: the cursor says by which columns the run walks."""
    await make_rows(database, spelling, BY_AGE)
    where = oldest(900)
    shorter = settings.model_copy(update={"chunk_start_rows": 100, "chunk_min_rows": 100})
    assert await delete(one_chunk_of(delete_runner(make_runner, changed=shorter)), where=where) == Interrupted()
    await execute(database, "DROP INDEX by_age ON event" if backend == "mariadb" else "DROP INDEX by_age")
    runner = delete_runner(make_runner)
    assert result_of(await delete(runner, where=where)) == {"deleted": 900, "archived": 0}
    assert await walked_by(runner) == ["created_at", "id"]
    assert await value_of(database, "SELECT count(created_at) FROM event") == ROWS - 900


async def test_rows_of_one_moment_are_told_apart(
    make_runner: MakeRunner, database: Database, settings: Settings, spelling: Spelling
) -> None:
    """A walk along an index meets rows that share a value once each, whichever side of a span's edge they are on."""
    # 70 rows of each moment, and chunks of a hundred
    await make_rows(database, spelling, BY_AGE, seconds_ago="(n + 69 - (n + 69) % 70) / 70 * 3600")
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
    assert await value_of(database, "SELECT count(created_at) FROM event") == ROWS - 750


PRIMARY: Final[dict[str, tuple[tuple[str, ...], dict[str, object], int]]] = {
    "many_rows_match": ((BY_AGE,), {"created_at": {"older_than": "10000m"}}, 21),
    "no_index": ((), OLDEST, 21),
    "an_index_that_starts_elsewhere": (("CREATE INDEX elsewhere ON event (kind, created_at)",), OLDEST, 21),
    "one_of_two": ((BY_AGE,), {"or": [OLDEST, {"id": {"eq": 5}}]}, 21),
    "many_rows_of_one_value": (
        ("CREATE INDEX by_kind ON event (kind)",),
        {"kind": {"eq": "k1"}, "amount": {"lt": 100}},
        21,
    ),
    "a_range_of_the_key": ((BY_AGE,), {"id": {"le": 20000}}, 4),
    "a_smaller_range_of_the_key": ((BY_AGE,), {"id": {"le": 50}, **OLDEST}, 1),
}


@pytest.mark.parametrize("kind", PRIMARY)
async def test_otherwise_it_walks_by_the_primary_key(
    make_runner: MakeRunner, database: Database, spelling: Spelling, kind: str
) -> None:
    """Where no index leads to few rows the primary key does, over the range of it that the condition names."""
    await assert_primary(make_runner, database, spelling, *PRIMARY[kind])


@pytest.mark.only_on("postgresql", "sqlite", why="MariaDB has no partial indexes")
async def test_an_index_of_some_rows_leads_nowhere(
    make_runner: MakeRunner, database: Database, spelling: Spelling
) -> None:
    """A partial index may lack rows that are meant."""
    await assert_primary(make_runner, database, spelling, (f"{BY_AGE} WHERE kind = 'k1'",), OLDEST, 21)


@pytest.mark.only_on("postgresql", why="indexes that know no order are PostgreSQL's")
async def test_an_index_of_no_order_leads_nowhere(
    make_runner: MakeRunner, database: Database, spelling: Spelling
) -> None:
    """A walk needs an order."""
    brin = "CREATE INDEX ON event USING brin (created_at)"
    await assert_primary(make_runner, database, spelling, (brin,), OLDEST, 21)


async def assert_primary(
    make_runner: MakeRunner,
    database: Database,
    spelling: Spelling,
    indexes: Sequence[str],
    where: dict[str, object],
    chunks: int,
) -> None:
    """A delete walks by the primary key, in so many chunks, and deletes what it is to delete."""
    await make_rows(database, spelling, *indexes)
    meant = await value_of(database, f"SELECT count(*) FROM event WHERE {as_sql(where, spelling)}")
    runner = delete_runner(make_runner)
    assert result_of(await delete(runner, where=where)) == {"deleted": meant, "archived": 0}
    cursor = (await record_of(runner)).cursor
    assert cursor is None or cursor["order"] == ["id"]
    assert await chunks_of(database) == chunks


def as_sql(where: dict[str, object], spelling: Spelling) -> str:
    """The conditions that this module uses, as a person would write them in SQL."""
    parts = []
    for name, asked in where.items():
        if name == "or":
            assert isinstance(asked, list)
            parts.append("(" + " OR ".join(as_sql(part, spelling) for part in asked) + ")")
            continue
        assert isinstance(asked, dict)
        ((operator, value),) = asked.items()
        sign = {"le": "<=", "lt": "<", "eq": "="}.get(operator)
        if sign is None:
            parts.append(f"{name} < {spelling.ago(60 * int(str(value)[:-1]))}")
        else:
            parts.append(f"{name} {sign} {value!r}")
    return " AND ".join(parts)


@dataclass(frozen=True, slots=True)
class Lead:
    """A column that leads a walk.

    Attributes:
        type_: what the database has.
        modelled: what the model says.
        value: of the row with a number.
        where: which rows are meant.
        meant: the same, of a column.
    """

    type_: TypeEngine[Any]
    modelled: TypeEngine[Any]
    value: Callable[[int], Any]
    where: dict[str, object]
    meant: Callable[[ColumnElement[Any]], ColumnElement[bool]]


LEADS: Final = {
    "uuid": Lead(
        Uuid(),
        Uuid(),
        lambda n: UUID(md5(str(n).encode(), usedforsecurity=False).hexdigest(), version=4),
        {"lt": "00800000-0000-0000-0000-000000000000"},
        lambda column: column < UUID(int=0x80 << 112),
    ),
    "date": Lead(
        Date(),
        Date(),
        lambda n: date(2000, 1, 1) + timedelta(n),
        {"lt": "2000-02-20"},
        lambda column: column < date(2000, 2, 20),
    ),
    "bigint": Lead(
        BigInteger(),
        Integer(),
        lambda n: n * 10_000_000_000,
        {"between": [10_000_000_000, 500_000_000_000]},
        lambda column: column <= 500_000_000_000,
    ),
    "text": Lead(
        String(40).with_variant(String(40, collation="C"), "postgresql"),
        String(),
        lambda n: f"k{n:09}",
        {"gt": "k000019900"},
        lambda column: column > "k000019900",
    ),
    "moment": Lead(
        WALL,
        DateTime(timezone=True),
        lambda n: datetime(2024, 1, 1) + timedelta(microseconds=n),  # noqa: DTZ001 - the column has no zone
        {"lt": "2024-01-01T00:00:00.000090Z"},
        lambda column: column < datetime(2024, 1, 1, microsecond=90),  # noqa: DTZ001 - the column has no zone
    ),
}


@pytest.mark.parametrize("kind", LEADS)
async def test_columns_of_every_ordered_type(make_runner: MakeRunner, database: Database, kind: str) -> None:
    """An index on a date, a UUID, a large number or a text leads a walk as well as one on a moment."""
    lead = LEADS[kind]
    columns = (Column("id", Integer, primary_key=True, autoincrement=False), Column("lead", lead.type_))
    stored = Table("parcel", MetaData(), *columns, Index("by_lead", "lead"))
    async with database.engine.begin() as connection:
        await connection.run_sync(stored.create)
    await put(database, stored, [{"id": ROWS + 1 - n, "lead": lead.value(n)} for n in range(1, ROWS + 1)])
    await analyze(database, "parcel")
    left = select(func.count()).select_from(stored).where(lead.meant(stored.c.lead))
    meant = await value_of(database, left)
    assert meant
    runner = delete_runner(
        make_runner, Table("parcel", MetaData(), Column("id", Integer, primary_key=True), Column("lead", lead.modelled))
    )
    outcome = await delete(runner, table="parcel", where={"lead": lead.where})
    assert result_of(outcome) == {"deleted": meant, "archived": 0}
    assert await walked_by(runner) == ["lead", "id"]
    assert await value_of(database, left) == 0
    assert await value_of(database, "SELECT count(*) FROM parcel") == ROWS - meant
