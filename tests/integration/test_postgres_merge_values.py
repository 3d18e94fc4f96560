"""What values an upsert stores, and which it takes for the same, on real PostgreSQL servers."""

import enum
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Double,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Table,
    Text,
    Time,
    TypeDecorator,
    Uuid,
    exc,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import (
    ARRAY,
    BIT,
    CIDR,
    CITEXT,
    INET,
    INT4RANGE,
    JSONB,
    TSVECTOR,
    Range,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.core.errors import RequestError
from worker.core.merge_counts import MergeCounts

Execute = Callable[[str], Awaitable[None]]
Upsert = Callable[..., Awaitable[MergeCounts]]
UNIQUE_ID = UUID("01234567-89ab-cdef-0123-456789abcdef")


class Mood(enum.Enum):
    """An enum whose names and values differ."""

    SAD = "a sad one"
    HAPPY = 'a "happy" one'


class Reversed(TypeDecorator[str]):
    """Text, stored back to front."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, _: Dialect) -> str | None:
        """Turn it round."""
        return value and value[::-1]

    def process_result_value(self, value: str | None, _: Dialect) -> str | None:
        """Turn it back."""
        return value and value[::-1]


class Doubled(TypeDecorator[int]):
    """A number that the database doubles on the way in."""

    impl = Integer
    cache_ok = True

    def bind_expression(self, bindvalue: Any) -> Any:
        """Double it."""
        return func.abs(bindvalue) * 2


CASES: list[tuple[Any, object, object]] = [
    (Boolean(), True, True),
    (SmallInteger(), -32768, -32768),
    (Integer(), 2147483647, 2147483647),
    (BigInteger(), 9223372036854775807, 9223372036854775807),
    (Numeric(12, 2), Decimal("1.005"), Decimal("1.01")),
    (Numeric(), Decimal("NaN"), None),
    (Numeric(), Decimal("123456789012345678901234567890.5"), Decimal("123456789012345678901234567890.5")),
    (Float(), 1.5, 1.5),
    (Double(), float("nan"), None),
    (Double(), float("-inf"), float("-inf")),
    (String(5), "ünï", "ünï"),
    (Text(), "a\nb\\c\"d'{}", "a\nb\\c\"d'{}"),
    (LargeBinary(), b"\x00\xff", b"\x00\xff"),
    (Date(), date(2026, 2, 28), date(2026, 2, 28)),
    (Time(), time(23, 59, 59, 999999), time(23, 59, 59, 999999)),
    (DateTime(), datetime(2026, 1, 1, 12, 0, 0, 1), datetime(2026, 1, 1, 12, 0, 0, 1)),  # noqa: DTZ001 - naive on purpose
    (DateTime(timezone=True), datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
    (Interval(), timedelta(days=-1, microseconds=1), timedelta(days=-1, microseconds=1)),
    (Uuid(), UNIQUE_ID, UNIQUE_ID),
    (Uuid(as_uuid=False), str(UNIQUE_ID), str(UNIQUE_ID)),
    (Uuid(native_uuid=False), UNIQUE_ID, UNIQUE_ID),
    (Enum(Mood, name="mood"), Mood.HAPPY, Mood.HAPPY),
    (Enum(Mood, native_enum=False), Mood.SAD, Mood.SAD),
    (Enum("a b", 'c"d', name="odd mood"), 'c"d', 'c"d'),
    (JSON(), {"a": [1, None, "ü"]}, {"a": [1, None, "ü"]}),
    (JSONB(), [1.5, {"b": False}], [1.5, {"b": False}]),
    (JSONB(), "text", "text"),
    (BIT(4), "0101", "0101"),
    (INET(), "10.0.0.1", None),
    (CIDR(), "10.0.0.0/8", None),
    (INT4RANGE(), Range(1, 5), Range(1, 5)),
    (TSVECTOR(), "'a' 'b'", "'a' 'b'"),
    (Reversed(), "abc", "abc"),
    (Doubled(), -4, 8),
    (ARRAY(Integer), [1, None, -3], [1, None, -3]),
    (ARRAY(Integer), [], []),
    (ARRAY(Integer), "{1,2}", [1, 2]),
    (ARRAY(Integer, dimensions=2), [[1, 2], [3, 4]], [[1, 2], [3, 4]]),
    (ARRAY(String(9)), ["a", 'b"\\,{}', "NULL", "", None], ["a", 'b"\\,{}', "NULL", "", None]),
    (ARRAY(Boolean), [True, False], [True, False]),
    (ARRAY(Double), [1e-7, float("inf")], [1e-7, float("inf")]),
    (ARRAY(Numeric(4, 1)), [Decimal("1.25")], [Decimal("1.3")]),
    (ARRAY(DateTime(timezone=True)), [datetime(2026, 1, 1, tzinfo=UTC)], [datetime(2026, 1, 1, tzinfo=UTC)]),
    (ARRAY(Interval), [timedelta(days=-1, microseconds=1)], [timedelta(days=-1, microseconds=1)]),
    (ARRAY(LargeBinary), [b"\x00\\"], [b"\x00\\"]),
    (ARRAY(Uuid()), [UNIQUE_ID], [UNIQUE_ID]),
    (ARRAY(Enum(Mood, name="moods")), [Mood.HAPPY], [Mood.HAPPY]),
    (ARRAY(JSONB), [{"a": 'x"'}, None], [{"a": 'x"'}, None]),
]


def with_column(column: Column[Any]) -> Table:
    """A table of an id and one more column, `a`."""
    return Table("one", MetaData(), Column("id", Integer, primary_key=True, autoincrement=False), column)


async def create(engine: AsyncEngine, table: Table) -> Table:
    """Create a table as its model has it."""
    async with engine.begin() as connection:
        await connection.run_sync(table.metadata.create_all)
    return table


async def values_of(engine: AsyncEngine, table: Table) -> list[Any]:
    """What column `a` holds, in the order of ids."""
    async with engine.connect() as connection:
        return list((await connection.execute(select(table.c.a).order_by(table.c.id))).scalars())


@pytest.mark.parametrize(("kind", "given", "stored"), CASES, ids=lambda value: repr(value)[:40])
async def test_types(postgres: AsyncEngine, upsert: Upsert, kind: Any, given: object, stored: object) -> None:
    """A value of each common type, and None, comes back as it was given, and given again changes nothing."""
    table = await create(postgres, with_column(Column("a", kind)))
    rows = [{"id": 1, "a": given}, {"id": 2, "a": None}]
    assert await upsert(table, rows) == MergeCounts(inserted=2, updated=0, unchanged=0, duplicates=0)
    found, none = await values_of(postgres, table)
    assert none is None
    if stored is None:
        assert str(found).lower() == str(given).lower()
    else:
        assert found == stored
    assert await upsert(table, rows) == MergeCounts(inserted=0, updated=0, unchanged=2, duplicates=0)


async def test_none_is_sql_null(postgres: AsyncEngine, execute: Execute, upsert: Upsert) -> None:
    """None in a JSON column is SQL's NULL, not JSON's."""
    table = await create(postgres, with_column(Column("a", JSONB)))
    await upsert(table, [{"id": 1, "a": None}])
    await execute("ALTER TABLE one ADD CHECK (a IS NULL)")


async def test_array_items(postgres: AsyncEngine, upsert: Upsert) -> None:
    """An item that no array can hold is refused by its column's name."""
    table = await create(postgres, with_column(Column("a", ARRAY(Integer))))
    with pytest.raises(RequestError, match=r"Column 'a' is an array, and an item of it is \{\} of type dict"):
        await upsert(table, [{"id": 1, "a": [{}]}])


@pytest.mark.parametrize(
    "case",
    [
        ("varchar(3)", Text, "long", "22001"),
        ("char(3)", Text, "long", "22001"),
        ("code", Text, "long", "22001"),
        ("varchar(3)[]", Text, "{long}", "22001"),
        ("code[]", Text, "{long}", "22001"),
        ("bit(3)", BIT, "1111", "22026"),
    ],
)
async def test_too_long(
    postgres: AsyncEngine, execute: Execute, upsert: Upsert, case: tuple[str, Any, str, str]
) -> None:
    """A value that is too long is refused by the database, never cut short, in a key either."""
    declaration, kind, value, code = case
    await execute(f"CREATE DOMAIN code AS varchar(3); CREATE TABLE one (id int PRIMARY KEY, a {declaration} UNIQUE)")
    table = with_column(Column("a", kind))
    for key in ("id", "a"):
        with pytest.raises(exc.DBAPIError) as caught:
            await upsert(table, [{"id": 1, "a": value}], key=[key])
        assert getattr(caught.value.orig, "sqlstate", None) == code
    assert await values_of(postgres, table) == []


async def test_out_of_range(postgres: AsyncEngine, upsert: Upsert) -> None:
    """A number with too many digits is refused by the database."""
    table = await create(postgres, with_column(Column("a", Numeric(4, 2))))
    with pytest.raises(exc.DBAPIError) as caught:
        await upsert(table, [{"id": 1, "a": Decimal(100)}])
    assert getattr(caught.value.orig, "sqlstate", None) == "22003"


@pytest.mark.parametrize(
    "case",
    [
        ("char(5)", String, ["a", "a  ", "a    "]),
        ("numeric(6,2)", Numeric, [Decimal(1), Decimal("1.001"), Decimal("1.00")]),
        ("amount", Numeric, [Decimal(1), Decimal("1.001"), Decimal("1.00")]),
        ("numeric", Numeric, [Decimal(1), Decimal("1.000")]),
        ("timestamp(0)", DateTime, [datetime(2026, 1, 1), datetime(2026, 1, 1, microsecond=400000)]),  # noqa: DTZ001 - naive on purpose
        (
            "timestamptz",
            lambda: DateTime(timezone=True),
            [datetime.fromisoformat("2026-01-01T01:00+01:00"), datetime.fromisoformat("2026-01-01T00:00Z")],
        ),
        ("float8", Double, [0.0, -0.0]),
        ("citext", CITEXT, ["a", "A"]),
        ("citext[]", lambda: ARRAY(CITEXT), [["a"], ["A"]]),
        ("text COLLATE folded", Text, ["a", "A"]),
        ("name_", Text, ["a", "A"]),
    ],
)
async def test_same_key(
    postgres: AsyncEngine, execute: Execute, upsert: Upsert, case: tuple[str, Any, list[object]]
) -> None:
    """Keys that the database takes for one are one: the last row counts, and the row there is updated."""
    declaration, kind, same = case
    await make_types(postgres, execute, declaration)
    await execute(f"CREATE TABLE one (id int, a {declaration} PRIMARY KEY)")
    table = Table("one", MetaData(), Column("id", Integer), Column("a", kind(), primary_key=True))
    rows = [{"id": number, "a": value} for number, value in enumerate(same)]
    assert await upsert(table, rows, key=["a"]) == MergeCounts(1, 0, 0, len(same) - 1)
    assert await upsert(table, rows[:1], key=["a"]) == MergeCounts(0, 1, 0, 0)
    assert await upsert(table, rows[-1:], key=["a"]) == MergeCounts(0, 1, 0, 0)


@pytest.mark.parametrize(
    "case",
    [
        ("json", JSON, {"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ("point", Text, "(1,2)", "(1,3)"),
        ("citext", CITEXT, "a", "A"),
        ("text COLLATE folded", Text, "a", "A"),
        ("citext[]", lambda: ARRAY(CITEXT), ["a"], ["A"]),
    ],
)
async def test_change_that_equality_overlooks(
    postgres: AsyncEngine, execute: Execute, upsert: Upsert, case: tuple[str, Any, object, object]
) -> None:
    """A change that the type's equality does not see, or that has none, is stored and counted."""
    declaration, kind, first, second = case
    await make_types(postgres, execute, declaration)
    await execute(f"CREATE TABLE one (id int PRIMARY KEY, a {declaration})")
    table = with_column(Column("a", kind()))
    await upsert(table, [{"id": 1, "a": first}])
    assert await upsert(table, [{"id": 1, "a": first}]) == MergeCounts(0, 0, 1, 0)
    assert await upsert(table, [{"id": 1, "a": second}]) == MergeCounts(0, 1, 0, 0)
    assert await upsert(table, [{"id": 1, "a": second}]) == MergeCounts(0, 0, 1, 0)


async def make_types(engine: AsyncEngine, execute: Execute, declaration: str) -> None:
    """Create what a declaration needs, or skip where this server was built without it."""
    await execute("CREATE DOMAIN amount AS numeric(6,2)")
    async with engine.connect() as connection:
        if "citext" in declaration:
            if not (
                await connection.exec_driver_sql("SELECT 1 FROM pg_available_extensions WHERE name = 'citext'")
            ).all():
                pytest.skip("this server lacks the extension citext")
            await execute("CREATE EXTENSION IF NOT EXISTS citext SCHEMA public")
        if declaration in {"text COLLATE folded", "name_"}:
            if not (await connection.exec_driver_sql("SELECT 1 FROM pg_collation WHERE collname = 'de-x-icu'")).all():
                pytest.skip("this server was built without ICU, hence without nondeterministic collations")
            await execute(
                "CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
                "CREATE DOMAIN name_ AS text COLLATE folded"
            )


async def test_the_end_of_time_is_a_day(postgres: AsyncEngine, execute: Execute, upsert: Upsert) -> None:
    """The first and the last day, and the moments beside them, are stored as what they are and not as infinity."""
    await execute("CREATE TABLE t (id int PRIMARY KEY, day date, moment timestamptz, local timestamp)")
    table = Table(
        "t",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("day", Date),
        Column("moment", DateTime(timezone=True)),
        Column("local", DateTime),
    )
    last, first = datetime.max, datetime.min  # noqa: DTZ901 - the column without a zone holds such
    rows = [
        {"id": 1, "day": date.max, "moment": last.replace(tzinfo=UTC), "local": last},
        {"id": 2, "day": date.min, "moment": first.replace(tzinfo=UTC), "local": first},
    ]
    await upsert(table, rows)
    assert (await upsert(table, rows)).unchanged == 2
    async with postgres.connect() as connection:
        stored = await connection.exec_driver_sql(
            "SELECT isfinite(day) AND isfinite(moment) AND isfinite(local), day::text, local::text FROM t ORDER BY id"
        )
        assert [tuple(row) for row in stored] == [
            (True, "9999-12-31", "9999-12-31 23:59:59.999999"),
            (True, "0001-01-01", "0001-01-01 00:00:00"),
        ]
