"""What values an upsert stores in a file of SQLite's, and which it takes for the same."""

import enum
import struct
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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
    func,
)

from tests.support.sqlite_tables import Row, SqliteWork, sqlite_work
from worker.core.errors import RequestError
from worker.core.merge_counts import MergeCounts
from worker.core.update_counts import UpdateCounts

UNIQUE_ID = UUID("01234567-89ab-cdef-0123-456789abcdef")
ROME = datetime.fromisoformat("2026-07-01T12:00:00.000001+02:00")
LATE = datetime.max  # noqa: DTZ901 - the column has no zone

pytestmark = pytest.mark.filterwarnings("ignore:Dialect sqlite:sqlalchemy.exc.SAWarning")


class Mood(enum.Enum):
    """An enum whose names and values differ."""

    SAD = "a sad one"
    HAPPY = 'a "happy" one'


class Doubled(TypeDecorator[int]):
    """A number that the database doubles on the way in."""

    impl = Integer
    cache_ok = True

    def bind_expression(self, bindvalue: Any) -> Any:
        """Double it."""
        return func.abs(bindvalue) * 2


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


CASES: list[tuple[Any, object, object]] = [
    (Boolean(), True, True),
    (SmallInteger(), -32768, -32768),
    (BigInteger(), 2**63 - 1, 2**63 - 1),
    (BigInteger(), -(2**63), -(2**63)),
    (Numeric(12, 2), Decimal("12345678.90"), Decimal("12345678.90")),
    (Numeric(15, 2), Decimal("9999999999999.99"), Decimal("9999999999999.99")),
    (Numeric(15, 0), Decimal(-999999999999999), Decimal(-999999999999999)),
    (Numeric(12, 2), Decimal("100.00"), Decimal("100.00")),
    (Float(), 1.5, 1.5),
    (Double(), float("-inf"), float("-inf")),
    (Double(), 5e-324, 5e-324),
    (Double(), 3.0, 3.0),
    (String(5), "ünï", "ünï"),
    (String(), "007", "007"),
    (Text(), "a\nb\\c\"d'{}", "a\nb\\c\"d'{}"),
    (LargeBinary(), b"\x00\xff", b"\x00\xff"),
    (Date(), date(2026, 2, 28), date(2026, 2, 28)),
    (Time(), time(23, 59, 59, 999999), time(23, 59, 59, 999999)),
    (DateTime(), LATE, LATE),
    (DateTime(), ROME, ROME.astimezone(UTC).replace(tzinfo=None)),
    (DateTime(timezone=True), ROME, ROME.astimezone(UTC).replace(tzinfo=None)),
    (Interval(), timedelta(days=-1, microseconds=1), timedelta(days=-1, microseconds=1)),
    (Uuid(), UNIQUE_ID, UNIQUE_ID),
    (Uuid(as_uuid=False), str(UNIQUE_ID), str(UNIQUE_ID)),
    (Enum(Mood, name="mood"), Mood.HAPPY, Mood.HAPPY),
    (JSON(), {"a": [1, None, "ü"]}, {"a": [1, None, "ü"]}),
    (JSON(), "5", "5"),
    (Reversed(), "abc", "abc"),
    (Doubled(), -4, 8),
]


def with_column(kind: Any) -> Table:
    """A table of an id and one more column, `a`."""
    return Table("one", MetaData(), Column("id", Integer, primary_key=True), Column("a", kind))


@pytest.fixture
async def work(tmp_path: Path) -> AsyncIterator[SqliteWork]:
    """A file of the test's own."""
    async with sqlite_work(tmp_path / "test.db") as found:
        yield found


@pytest.mark.parametrize(("kind", "given_", "stored"), CASES, ids=lambda value: repr(value)[:40])
async def test_types(work: SqliteWork, kind: Any, given_: object, stored: object) -> None:
    """A value of each common type, and None, comes back as it was given, and given again changes nothing."""
    table = await work.create(with_column(kind))
    rows: list[Row] = [{"id": 1, "a": given_}, {"id": 2, "a": None}]
    assert await work.upsert(table, rows) == MergeCounts(inserted=2, updated=0, unchanged=0, duplicates=0)
    assert await work.content(table) == [(1, stored), (2, None)]
    assert await work.upsert(table, rows) == MergeCounts(inserted=0, updated=0, unchanged=2, duplicates=0)
    assert await work.update(table, rows[::-1]) == UpdateCounts(updated=0, unchanged=2)
    other: list[Row] = [{"id": 1, "a": None}, {"id": 2, "a": given_}]
    assert await work.update(table, other) == UpdateCounts(updated=2, unchanged=0)
    assert await work.content(table) == [(1, None), (2, stored)]


@pytest.mark.parametrize(
    ("declaration", "kind", "same"),
    [
        ("TEXT COLLATE NOCASE", Text, ["a", "A"]),
        ("VARCHAR(9) COLLATE RTRIM", Text, ["a", "a  ", "a "]),
        ("NUMERIC(6,2)", Numeric, [Decimal(1), Decimal("1.00"), 1]),
        ("DATETIME", DateTime, [ROME, ROME.astimezone(UTC), ROME.astimezone(UTC).replace(tzinfo=None)]),
        ("REAL", Double, [0.0, -0.0, 0]),
        ("INTEGER", Integer, [1, True]),
    ],
)
async def test_same_key(work: SqliteWork, declaration: str, kind: Callable[[], Any], same: list[object]) -> None:
    """Keys that the database takes for one are one: the last row counts, and the row there is updated."""
    await work.execute(f"CREATE TABLE one (id INTEGER, a {declaration} NOT NULL PRIMARY KEY)")
    table = Table("one", MetaData(), Column("id", Integer), Column("a", kind(), primary_key=True))
    rows = [{"id": number, "a": value} for number, value in enumerate(same)]
    assert await work.upsert(table, rows, key=["a"]) == MergeCounts(1, 0, 0, len(same) - 1)
    assert await work.upsert(table, rows[:1], key=["a"]) == MergeCounts(0, 1, 0, 0)
    assert await work.update(table, rows, key=["a"]) == UpdateCounts(1, 0, duplicates=len(same) - 1)


@pytest.mark.parametrize("declaration", ["TEXT COLLATE NOCASE", "VARCHAR(9) COLLATE NOCASE", "COLLATE NOCASE"])
async def test_change_that_equality_overlooks(work: SqliteWork, declaration: str) -> None:
    """A change of case is stored and counted where the column's collation does not see it."""
    await work.execute(f"CREATE TABLE one (id INTEGER PRIMARY KEY, a {declaration})")
    table = with_column(Text())
    await work.upsert(table, [{"id": 1, "a": "a"}])
    assert await work.upsert(table, [{"id": 1, "a": "a"}]) == MergeCounts(0, 0, 1, 0)
    assert await work.upsert(table, [{"id": 1, "a": "A"}]) == MergeCounts(0, 1, 0, 0)
    assert await work.update(table, [{"id": 1, "a": "a"}]) == UpdateCounts(1, 0)
    assert await work.content(table) == [(1, "a")]


async def test_a_column_without_a_type_tells_an_integer_from_a_float(work: SqliteWork) -> None:
    """1 and 1.0 are equal, and the column keeps which of them it was given."""
    await work.execute("CREATE TABLE one (id INTEGER PRIMARY KEY, a)")
    table = with_column(Double())
    await work.execute("INSERT INTO one VALUES (1, 1)")
    assert await work.upsert(table, [{"id": 1, "a": 1.0}]) == MergeCounts(0, 1, 0, 0)
    assert await work.rows("SELECT typeof(a) FROM one") == [("real",)]
    assert await work.upsert(table, [{"id": 1, "a": 1.0}]) == MergeCounts(0, 0, 1, 0)


@pytest.mark.parametrize(
    ("declaration", "kind"), [("STRING", String), ("UUID", Uuid), ("DATE", String(10)), ("NUMERIC(5,2)", Text)]
)
async def test_text_is_not_sent_where_it_would_become_a_number(work: SqliteWork, declaration: str, kind: Any) -> None:
    """A model's text in a column of SQLite's numbers is refused, with the declaration that keeps text."""
    await work.execute(f"CREATE TABLE one (id INTEGER PRIMARY KEY, a {declaration})")
    with pytest.raises(RequestError, match=r"SQLite would keep the text '007' as 7\. Declare it TEXT"):
        await work.upsert(with_column(kind), [{"id": 1, "a": "007"}])


exact = st.decimals(min_value=Decimal("-9999999999999.99"), max_value=Decimal("9999999999999.99"), places=2)
floats = st.floats(allow_nan=False)
VALUES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "integer": (BigInteger(), st.integers(-(2**63), 2**63 - 1)),
    "numeric": (Numeric(15, 2), exact),
    "double": (Double(), floats),
    "text": (Text(), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))),
    "blob": (LargeBinary(), st.binary()),
    "moment": (DateTime(), st.datetimes()),
    "day": (Date(), st.dates()),
    "hour": (Time(), st.times()),
    "uuid": (Uuid(), st.uuids()),
}


@pytest.mark.parametrize("name", VALUES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_any_value_comes_back_as_it_was(work: SqliteWork, name: str, data: st.DataObject) -> None:
    """Whatever a column of a type can hold is stored exactly, found equal to itself, and found as a key."""
    kind, strategy = VALUES[name]
    columns = (Column("a", kind, primary_key=True), Column("id", Integer))
    table = Table(f"t_{name}", MetaData(), *columns)
    await work.create(table)
    await work.execute(f"DELETE FROM t_{name}")
    values = data.draw(st.lists(strategy, min_size=1, max_size=9, unique=True))
    rows = [{"a": value, "id": number} for number, value in enumerate(values)]
    assert (await work.upsert(table, rows, key=["a"])).inserted == len(rows)
    assert sorted(number for _, number in await work.content(table)) == list(range(len(rows)))
    assert {bits(value): number for value, number in await work.content(table)} == {
        bits(row["a"]): row["id"] for row in rows
    }
    assert (await work.upsert(table, rows, key=["a"])).unchanged == len(rows)
    assert (await work.update(table, [{**row, "id": -1} for row in rows], key=["a"])).updated == len(rows)


def bits(value: object) -> object:
    """A value, and a float with each of its bits but the sign of zero, which the table does not keep."""
    return struct.pack("d", value + 0.0) if isinstance(value, float) else value
