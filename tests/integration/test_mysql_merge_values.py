"""What values an upsert stores, and which it takes for the same, on a real MariaDB."""

import enum
from collections.abc import Mapping
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
    TypeDecorator,
    Uuid,
    exc,
    func,
    select,
    true,
)
from sqlalchemy.dialects import mysql as own

from tests.support.mysql_tables import Merging, mysql_engine
from worker.core.merge_counts import MergeCounts
from worker.core.update_counts import UpdateCounts
from worker.database.mysql.merge import MySqlMerge
from worker.database.mysql.row_insert import number_of
from worker.database.mysql.row_update import MySqlWhereUpdate

UNIQUE_ID = UUID("01234567-89ab-4def-8123-456789abcdef")


class Mood(enum.Enum):
    """An enum whose names and values differ."""

    SAD = "a sad one"
    HAPPY = 'a "happy" one'


class Reversed(TypeDecorator[str]):
    """Text, stored back to front."""

    impl = String(20)
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
    (own.TINYINT(unsigned=True), 255, 255),
    (own.MEDIUMINT(), -(2**23), -(2**23)),
    (Integer(), 2147483647, 2147483647),
    (BigInteger(), 9223372036854775807, 9223372036854775807),
    (own.BIGINT(unsigned=True), 2**64 - 1, 2**64 - 1),
    (Numeric(12, 2), Decimal("1.005"), Decimal("1.01")),
    (Numeric(12, 2), Decimal("1E+3"), Decimal(1000)),
    (Numeric(65, 30), Decimal("12345678901234567890123456789012345.5"), None),
    (Numeric(30, 20), Decimal("0.00000000000000000001"), Decimal("0.00000000000000000001")),
    (Float(), 1.5, 1.5),
    (Float(), 0.1, None),
    (Double(), 0.1 + 0.2, 0.1 + 0.2),
    (Double(), 5e-324, 5e-324),
    (Double(), 1.7976931348623157e308, 1.7976931348623157e308),
    (String(5), "ünï", "ünï"),
    (String(3), "a", "a"),
    (own.CHAR(4), "ab  ", "ab"),
    (Text(), "a\nb\\c\"d'{}%s%%\t\r\x01\x7f", "a\nb\\c\"d'{}%s%%\t\r\x01\x7f"),
    (Text(), "𝄞\U0010ffff\u2028é", "𝄞\U0010ffff\u2028é"),
    (Text(), "a\x00b", "a\x00b"),
    (Text(), "null", "null"),
    (Text(), "", ""),
    (LargeBinary(), b"\x00\xff'\\\"%s", b"\x00\xff'\\\"%s"),
    (own.VARBINARY(4), b"", b""),
    (own.BINARY(4), b"\x01\x00", b"\x01\x00\x00\x00"),
    (Date(), date(2026, 2, 28), date(2026, 2, 28)),
    (Date(), date.min, date.min),
    (own.TIME(fsp=6), time(23, 59, 59, 999999), time(23, 59, 59, 999999)),
    (own.DATETIME(fsp=6), datetime(2026, 1, 1, 12, 0, 0, 1), datetime(2026, 1, 1, 12, 0, 0, 1)),  # noqa: DTZ001 - naive on purpose
    (own.DATETIME(fsp=6), datetime.max, datetime.max),  # noqa: DTZ901 - likewise
    (own.DATETIME(fsp=6), datetime.fromisoformat("2026-01-01T01:00+01:00"), datetime.fromisoformat("2026-01-01")),
    (own.TIMESTAMP(fsp=6), datetime(2026, 1, 1, tzinfo=UTC), datetime.fromisoformat("2026-01-01")),
    (Interval(), timedelta(days=1, seconds=1), timedelta(days=1, seconds=1)),
    (Uuid(), UNIQUE_ID, UNIQUE_ID),
    (Uuid(as_uuid=False), str(UNIQUE_ID), None),
    (Uuid(native_uuid=False), UNIQUE_ID, UNIQUE_ID),
    (Enum(Mood, name="mood"), Mood.HAPPY, Mood.HAPPY),
    (Enum(Mood, native_enum=False), Mood.SAD, Mood.SAD),
    (Enum("a b", 'c"d', "e'f,g", name="odd mood"), "e'f,g", "e'f,g"),
    (own.SET("a", "b", "c"), {"c", "a"}, {"a", "c"}),
    (own.SET("a", "b", "c"), "c,a", {"a", "c"}),
    (JSON(), {"a": [1, None, "ü"]}, {"a": [1, None, "ü"]}),
    (JSON(), "text", "text"),
    (own.BIT(4), 5, 5),
    (own.BIT(64), 2**64 - 1, 2**64 - 1),
    (own.YEAR(), 1999, 1999),
    (Reversed(), "abc", "abc"),
    (Doubled(), -4, 8),
]

WORDS = ["a", "A", "ä", "a ", " a", "ab", ""]


def with_column(column: Column[Any]) -> Table:
    """A table of an id and one more column, `a`."""
    return Table("one", MetaData(), Column("id", Integer, primary_key=True, autoincrement=False), column)


async def values_of(merging: Merging, table: Table) -> list[Any]:
    """What column `a` holds, in the order of ids."""
    async with merging.engine.connect() as connection:
        return list((await connection.execute(select(table.c.a).order_by(table.c.id))).scalars())


def _shown(value: object) -> str:
    # a set's own order differs from one process to the next
    return ascii(sorted(value) if isinstance(value, set) else value)[:40]


@pytest.mark.parametrize(("kind", "given", "stored"), CASES, ids=_shown)
async def test_types(merging: Merging, kind: Any, given: object, stored: object) -> None:
    """A value of each common type, and None, comes back as it was given, and given again changes nothing."""
    table = await merging.create(with_column(Column("a", kind)))
    rows: list[dict[str, object]] = [{"id": 1, "a": given}, {"id": 2, "a": None}]
    assert await merging.upsert(table, rows) == MergeCounts(inserted=2, updated=0, unchanged=0, duplicates=0)
    found, none = await values_of(merging, table)
    assert none is None
    assert stored is None or found == stored
    assert await merging.upsert(table, rows) == MergeCounts(inserted=0, updated=0, unchanged=2, duplicates=0)


@pytest.mark.parametrize(("kind", "given", "stored"), CASES, ids=_shown)
async def test_types_of_updates(merging: Merging, kind: Any, given: object, stored: object) -> None:
    """A value arrives by an update as by an upsert, by rows and by a condition, and the same again changes nothing."""
    table = await merging.create(with_column(Column("a", kind)))
    await merging.execute("INSERT INTO one VALUES (1, NULL), (2, NULL)")
    rows = [{"id": 1, "a": given}]
    assert await merging.update(table, rows) == UpdateCounts(updated=1, unchanged=0)
    assert await merging.update(table, rows) == UpdateCounts(updated=0, unchanged=1)
    assert await all_rows(merging, table, a=given) == UpdateCounts(updated=1, unchanged=1)
    assert await all_rows(merging, table, a=given) == UpdateCounts(updated=0, unchanged=2)
    assert stored is None or await values_of(merging, table) == [stored, stored]


async def all_rows(merging: Merging, table: Table, **values: object) -> UpdateCounts:
    """Give every row the same values."""
    facts = await merging.facts(table)
    async with merging.engine.begin() as connection:
        return await MySqlWhereUpdate(table, facts, values).apply(connection, true())


@pytest.mark.parametrize("charset", ["latin1", "utf8mb3", "ascii"])
async def test_a_database_of_another_character_set(mariadb_url: str, charset: str) -> None:
    """Text and documents arrive whole whatever the database's own character set is; what does not fit is refused."""
    async with mysql_engine(mariadb_url, charset) as engine:
        merging = Merging(engine)
        await merging.execute("CREATE TABLE one (id varchar(9) PRIMARY KEY, a text CHARACTER SET utf8mb4, b text)")
        table = Table("one", MetaData(), Column("id", String(9), primary_key=True))
        for name in "ab":
            table.append_column(Column(name, Text))
        rows = [{"id": "x", "a": "ü𝄞"}, {"id": "y", "a": "plain"}]
        assert await merging.upsert(table, rows) == MergeCounts(2, 0, 0, 0)
        assert await merging.upsert(table, rows) == MergeCounts(0, 0, 2, 0)
        assert [row[1] for row in await merging.content(table)] == ["ü𝄞", "plain"]
        for key in "xz":
            with pytest.raises(exc.DBAPIError):
                await merging.upsert(table, [{"id": key, "b": "𝄞"}])
        if charset == "latin1":
            for counts in (MergeCounts(0, 1, 0, 0), MergeCounts(0, 0, 1, 0)):
                assert await merging.upsert(table, [{"id": "x", "b": "é"}]) == counts


@pytest.mark.parametrize(
    "case",
    [
        ("varchar(3)", Text, "long", 1406),
        ("char(3)", Text, "long", 1406),
        ("varbinary(3)", LargeBinary, b"long", 1406),
        ("bit(3)", own.BIT, 15, 1406),
        ("decimal(4,2)", Numeric, Decimal(100), 1264),
        ("tinyint", Integer, 128, 1264),
        ("int unsigned", Integer, -1, 1264),
        ("float", Float, 1e39, 1264),
        ("double", Double, float("nan"), 1366),
        ("enum('a')", Text, "b", 1265),
        ("set('a')", Text, "b", 1265),
        ("date", Text, "2026-02-30", 1292),
        ("datetime(6)", Text, "never", 1292),
        ("int", Text, "x", 1366),
        ("uuid", Text, "x", 1292),
    ],
)
async def test_what_does_not_fit(merging: Merging, case: tuple[str, Any, object, int]) -> None:
    """A value that its column cannot hold is refused by the database, never cut short, rounded off or made zero."""
    declaration, kind, value, number = case
    await merging.execute(f"CREATE TABLE one (id int PRIMARY KEY, a {declaration}); INSERT INTO one VALUES (2, NULL)")
    table = with_column(Column("a", kind))
    for key in (1, 2):
        with pytest.raises(exc.DBAPIError) as caught:
            await merging.upsert(table, [{"id": key, "a": value}])
        # a value that is to be compared first cannot even be made
        assert number_of(caught.value) in {number, 1292}
    assert await values_of(merging, table) == [None]


@pytest.mark.parametrize(
    "case",
    [
        ("char(5)", String, ["a", "a  ", "A"]),
        ("varchar(5)", String, ["a", "A", "a  ", "ä"]),
        ("varchar(5) COLLATE utf8mb4_bin", String, ["a", "a  "]),
        ("numeric(6,2)", Numeric, [Decimal(1), Decimal("1.001"), Decimal("1.00")]),
        (
            "datetime(0)",
            DateTime,
            [datetime.fromisoformat("2026-01-01"), datetime.fromisoformat("2026-01-01 00:00:00.4")],
        ),
        (
            "timestamp(6)",
            lambda: DateTime(timezone=True),
            [datetime.fromisoformat("2026-01-01T01:00+01:00"), datetime.fromisoformat("2026-01-01T00:00Z")],
        ),
        ("double", Double, [0.0, -0.0]),
        ("float", Double, [0.1, 0.10000000149011612]),
        ("binary(4)", LargeBinary, [b"a", b"a\x00"]),
        ("enum('b', 'a')", Text, ["a", "A"]),
        ("set('b', 'a')", Text, ["a,b", "b,a", "b,a,a"]),
        ("bit(9)", BigInteger, [257, 257]),
        ("year", Integer, [1999, 1999]),
        ("uuid", Text, [str(UNIQUE_ID), str(UNIQUE_ID).upper(), UNIQUE_ID.hex]),
        ("inet6", Text, ["::1", "0:0::1"]),
    ],
)
async def test_same_key(merging: Merging, case: tuple[str, Any, list[object]]) -> None:
    """Keys that the database takes for one are one: the last row counts, and the row there is updated."""
    declaration, kind, same = case
    await merging.execute(f"CREATE TABLE one (id int, a {declaration} PRIMARY KEY) CHARACTER SET utf8mb4")
    table = Table("one", MetaData(), Column("id", Integer), Column("a", kind(), primary_key=True))
    rows = [{"id": number, "a": value} for number, value in enumerate(same)]
    assert await merging.upsert(table, rows, key=["a"]) == MergeCounts(1, 0, 0, len(same) - 1)
    for number, value in enumerate(same, 10):
        assert await merging.upsert(table, [{"id": number, "a": value}], key=["a"]) == MergeCounts(0, 1, 0, 0)


@pytest.mark.parametrize(
    "declaration", ["varchar(5) COLLATE utf8mb4_nopad_bin", "varbinary(5)", "blob", "varchar(5) COLLATE utf8mb4_bin"]
)
async def test_keys_that_are_compared_byte_by_byte(merging: Merging, declaration: str) -> None:
    """Keys of such a column are told apart by case, accents and, where the collation does not pad, blanks."""
    binary = not declaration.startswith("varchar")
    key = "(a(20))" if declaration == "blob" else "(a)"
    await merging.execute(f"CREATE TABLE one (id int, a {declaration} NOT NULL, UNIQUE KEY own {key})")
    if declaration == "blob":
        assert (await merging.facts(Table("one", MetaData()))).unique_keys == ()
        return
    kind: Any = LargeBinary() if binary else String(5)
    table = Table("one", MetaData(), Column("id", Integer), Column("a", kind, primary_key=True))
    words: list[object] = [word.encode() if binary else word for word in WORDS]
    rows: list[Mapping[str, object]] = [{"id": number, "a": word} for number, word in enumerate(words)]
    padded = declaration.endswith("utf8mb4_bin")
    assert await merging.upsert(table, rows, key=["a"]) == MergeCounts(len(WORDS) - padded, 0, 0, padded)


@pytest.mark.parametrize(
    "case",
    [
        ("json", JSON, {"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ("varchar(9)", Text, "a", "A"),
        ("varchar(9)", Text, "a", "a "),
        ("varchar(9) COLLATE utf8mb4_bin", Text, "a", "a "),
        ("text CHARACTER SET latin1", Text, "é", "e"),
        ("mediumtext", Text, "", " "),
    ],
)
async def test_change_that_equality_overlooks(merging: Merging, case: tuple[str, Any, object, object]) -> None:
    """A change that the collation does not see is stored and counted."""
    declaration, kind, first, second = case
    await merging.execute(f"CREATE TABLE one (id int PRIMARY KEY, a {declaration})")
    table = with_column(Column("a", kind()))
    await merging.upsert(table, [{"id": 1, "a": first}])
    assert await merging.upsert(table, [{"id": 1, "a": first}]) == MergeCounts(0, 0, 1, 0)
    assert await merging.upsert(table, [{"id": 1, "a": second}]) == MergeCounts(0, 1, 0, 0)
    assert await merging.upsert(table, [{"id": 1, "a": second}]) == MergeCounts(0, 0, 1, 0)
    assert await values_of(merging, table) == [second]
    assert await all_rows(merging, table, a=first) == UpdateCounts(1, 0)
    assert await all_rows(merging, table, a=first) == UpdateCounts(0, 1)


async def test_none_is_sql_null(merging: Merging) -> None:
    """None in a JSON column is SQL's NULL, not JSON's."""
    table = await merging.create(with_column(Column("a", JSON)))
    await merging.upsert(table, [{"id": 1, "a": None}])
    await merging.execute("ALTER TABLE one ADD CHECK (a IS NULL)")


async def test_a_key_of_large_numbers(merging: Merging) -> None:
    """Neighbouring numbers beyond a float's precision are different keys."""
    await merging.execute("CREATE TABLE one (id bigint unsigned PRIMARY KEY, a decimal(65,30) NOT NULL UNIQUE)")
    table = Table("one", MetaData(), Column("id", own.BIGINT(unsigned=True), primary_key=True))
    table.append_column(Column("a", Numeric))
    rows = [{"id": 2**64 - 1 - step, "a": Decimal(f"{10**34 + step}.{step:030d}")} for step in range(3)]
    assert await merging.upsert(table, rows) == MergeCounts(3, 0, 0, 0)
    assert await merging.upsert(table, rows, key=["a"]) == MergeCounts(0, 0, 3, 0)
    assert (await merging.content(table))[::-1] == [(row["id"], row["a"]) for row in rows]


@pytest.mark.parametrize(
    "case",
    [
        ("varchar(9)", Text, ["", "a", "ab", "b"]),
        ("varchar(768)", Text, ["", "a" * 767, "a" * 767 + "b", "b"]),
        ("varchar(3072) CHARACTER SET latin1", Text, ["a" * 3071, "a" * 3071 + "b", "b"]),
        ("char(9)", Text, ["", "a", "ab", "b"]),
        ("varbinary(3072)", LargeBinary, [b"", b"\x00", b"\x00\x00", b"a" * 3071, b"a" * 3071 + b"b", b"\xff"]),
        ("binary(4)", LargeBinary, [b"", b"\x00\x01", b"a", b"\xff"]),
        ("tinyint", Integer, [-1, 0, 1]),
        ("boolean", Boolean, [False, True]),
        ("bigint unsigned", own.BIGINT(unsigned=True), [0, 2**63 - 1, 2**63, 2**64 - 1]),
        (
            "decimal(30,20)",
            Numeric(12, 2),
            [Decimal("-0.00000000000000000001"), Decimal(0), Decimal("1E-20"), Decimal(1)],
        ),
        ("float", Double, [-1.5, 0.0, 0.1, 0.1000001]),
        ("double", Double, [-1e308, -5e-324, 0.0, 5e-324, 0.1, 0.1 + 2**-56]),
        ("bit(64)", BigInteger, [0, 9, 10, 255, 256, 2**63]),
        ("year", Integer, [1901, 2000, 2155]),
        ("date", Date, [date.min, date(1969, 12, 31), date.max]),
        (
            "datetime(6)",
            DateTime,
            [
                datetime.fromisoformat(f"{day} 00:00:00.00000{micro}")
                for day in ("0001-01-01", "9999-12-31")
                for micro in (0, 1)
            ],
        ),
        ("time(6)", Text, ["-838:59:59", "-00:00:00.000001", "00:00:00", "100:00:00", "99:00:00"]),
        ("enum('z','b','a')", Text, ["z", "b", "a"]),
        ("set('z','b','a')", Text, ["", "z", "b", "z,b", "a"]),
        ("uuid", Uuid, [UUID(int=1), UUID("01234567-89ab-1def-8123-456789abcdef"), UNIQUE_ID]),
        ("inet6", Text, ["::1", "::2", "1::"]),
    ],
)
async def test_order_of_keys(merging: Merging, case: tuple[str, Any, list[object]]) -> None:
    """Keys of every type are told apart, and come in the order in which the database's own index has them."""
    declaration, kind, values = case
    await merging.execute(f"CREATE TABLE one (a {declaration} PRIMARY KEY, id int) CHARACTER SET utf8mb4")
    table = Table("one", MetaData(), Column("a", kind, primary_key=True), Column("id", Integer))
    mixed = [*enumerate(values)][::-2] + [*enumerate(values)][-2::-2]
    rows = [{"a": value, "id": number} for number, value in mixed]
    assert await merging.upsert(table, rows, key=["a"]) == MergeCounts(len(values), 0, 0, 0)
    assert await merging.upsert(table, rows, key=["a"]) == MergeCounts(0, 0, len(values), 0)
    facts = await merging.facts(table)
    async with merging.engine.connect() as connection:
        stored = (await connection.execute(select(table.c.id).order_by(table.c.a))).scalars().all()
        merge = MySqlMerge(table, facts, columns=["a", "id"], key=["a"], update=["id"])
        groups = await merge.in_key_order(connection, [[row["a"] for row in rows], [row["id"] for row in rows]])
    assert [[mixed[place][0] for place in group] for group in groups] == [[number] for number in stored]


@pytest.mark.parametrize("size", [70_000, 3_000_000])
async def test_large_values(merging: Merging, size: int) -> None:
    """Bytes and text of any length arrive whole, in new rows and in known ones."""
    await merging.execute("CREATE TABLE one (id int PRIMARY KEY, a longblob, b longtext)")
    table = with_column(Column("a", LargeBinary))
    table.append_column(Column("b", Text))
    whole: bytes = bytes(range(256)) * (size // 256)
    words = 'ab"\\é' * (size // 6)
    for rows, counts in (
        ([{"id": 1, "a": whole, "b": words}], MergeCounts(1, 0, 0, 0)),
        ([{"id": 1, "a": whole, "b": words}], MergeCounts(0, 0, 1, 0)),
        ([{"id": key, "a": whole[::-1], "b": words[::-1]} for key in (1, 2)], MergeCounts(1, 1, 0, 0)),
    ):
        assert await merging.upsert(table, rows) == counts
        assert await merging.content(table) == [tuple(row.values()) for row in rows]
