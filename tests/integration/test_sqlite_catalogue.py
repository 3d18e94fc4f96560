"""What the facts of a table say that SQLite's schema declares, on real files."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, Uuid, create_engine
from sqlalchemy import types as sqltypes

from tests.support.sqlite_tables import SqliteWork, sqlite_work
from worker.core.errors import RequestError
from worker.core.table_facts import ColumnFacts, UniqueKey
from worker.core.walk_choice import LeadingColumn
from worker.database.sqlite.catalogue import may_be_unique
from worker.database.sqlite.declared_types import affinity_of_name
from worker.database.sqlite.exact_types import Affinity
from worker.database.sqlite.planner import COUNTED, estimate_rows, leading_columns


@pytest.fixture
async def work(tmp_path: Path) -> AsyncIterator[SqliteWork]:
    """A file of the test's own."""
    async with sqlite_work(tmp_path / "test.db") as found:
        yield found


def table(*names: str, of: str = "t") -> Table:
    """A table whose model knows nothing but names."""
    return Table(of, MetaData(), *(Column(name, Integer) for name in names))


async def column(work: SqliteWork, declaration: str, suffix: str = "") -> ColumnFacts:
    """The facts of one column."""
    await work.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, a {declaration}){suffix}")
    return (await work.facts(table())).column("a")


@pytest.mark.parametrize(
    ("declaration", "expected"),
    [
        ("INTEGER", ("integer", "integer", "int8")),
        ("SMALLINT", ("integer", "integer", "int8")),
        ("FLOATING POINT", ("integer", "integer", "int8")),
        ("BOOLEAN", ("boolean", "boolean", "bool")),
        ("VARCHAR(20)", ("character varying", "character varying(20)", "text")),
        ("nvarchar ( 20 )", ("character varying", "character varying(20)", "text")),
        ("VARCHAR", ("character varying", "character varying", "text")),
        ("TEXT", ("text", "text", "text")),
        ("CLOB", ("text", "text", "text")),
        ("NUMERIC(12, 2)", ("numeric", "numeric(12,2)", "numeric")),
        ("DECIMAL(5)", ("numeric", "numeric(5,0)", "numeric")),
        ("NUMERIC", ("numeric", "numeric", "numeric")),
        ("STRING", ("numeric", "numeric", "numeric")),
        ("FLOAT", ("double precision", "double precision", "float8")),
        ("DOUBLE PRECISION", ("double precision", "double precision", "float8")),
        ("DATE", ("date", "date", "date")),
        ("DATETIME", ("timestamp without time zone", "timestamp without time zone", "timestamp")),
        ("TIMESTAMP", ("timestamp without time zone", "timestamp without time zone", "timestamp")),
        ("TIME", ("time without time zone", "time without time zone", "time")),
        ("JSON", ("json", "json", "text")),
        ("BLOB", ("blob", "blob", "bytea")),
        ("", ("any", "any", "text")),
    ],
)
async def test_types(work: SqliteWork, declaration: str, expected: tuple[str, str, str]) -> None:
    """A declared type is what a column with its affinity keeps, in the words of the standard."""
    found = await column(work, declaration)
    assert (found.type_name, found.full_type, found.driver_type) == expected


@pytest.mark.parametrize(
    ("declaration", "digits"), [("NUMERIC(15,2)", None), ("NUMERIC(16,2)", 15), ("NUMERIC", 15), ("INTEGER", None)]
)
async def test_more_than_15_digits_are_not_promised(work: SqliteWork, declaration: str, digits: int | None) -> None:
    """A type that declares more digits than a float has says how many are kept."""
    assert (await column(work, declaration)).exact_digits == digits


async def test_numbers_are_finite(work: SqliteWork) -> None:
    """NaN would become NULL in silence, so no column of numbers takes it."""
    await work.execute("CREATE TABLE t (a REAL, b NUMERIC(5,2), c INTEGER, d TEXT)")
    facts = await work.facts(table())
    assert [known.finite for known in facts.columns.values()] == [True, True, False, False]


async def test_limits(work: SqliteWork) -> None:
    """Every integer has 64 bits, and a text's declared length holds though SQLite does not see to it."""
    await work.execute("CREATE TABLE t (a SMALLINT, b VARCHAR(3), c TEXT)")
    facts = await work.facts(table())
    assert (facts.column("a").minimum, facts.column("a").maximum) == (-(2**63), 2**63 - 1)
    assert [facts.column(name).max_length for name in "bc"] == [3, None]
    assert [facts.column(name).text for name in "abc"] == [False, True, True]


@pytest.mark.parametrize("declaration", ["CHAR(32)", "VARCHAR(36)"])
async def test_a_text_that_the_model_says_is_a_uuid_is_one(work: SqliteWork, declaration: str) -> None:
    """SQLite has no type for UUIDs, so the model has the word; without one it is text."""
    assert (await column(work, declaration)).driver_type == "text"
    found = (await work.facts(Table("t", MetaData(), Column("a", Uuid)))).column("a")
    assert (found.full_type, found.driver_type, found.text, found.max_length) == ("uuid", "uuid", False, None)


@pytest.mark.parametrize(
    ("declaration", "collation"),
    [
        ("TEXT", None),
        ("TEXT COLLATE BINARY", None),
        ("TEXT COLLATE nocase", "NOCASE"),
        ("VARCHAR(3) COLLATE RTRIM", "RTRIM"),
        ("COLLATE NOCASE", "NOCASE"),
    ],
)
async def test_collations(work: SqliteWork, declaration: str, collation: str | None) -> None:
    """A collation that overlooks a difference is found in an empty table without any index."""
    found = await column(work, declaration)
    assert (found.collation, found.comparable) == (collation, collation is None)


@pytest.mark.parametrize(
    ("declaration", "default", "nullable"),
    [
        ("INTEGER", None, True),
        ("INTEGER NOT NULL", None, False),
        ("INTEGER NOT NULL DEFAULT 5", "5", False),
        ("TEXT DEFAULT 'it''s'", "'it''s'", True),
        ("TEXT DEFAULT (upper('a'))", "upper('a')", True),
        ("TEXT DEFAULT CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP", True),
    ],
)
async def test_defaults(work: SqliteWork, declaration: str, default: str | None, *, nullable: bool) -> None:
    """Defaults are as the schema has them."""
    found = await column(work, declaration)
    assert (found.default, found.nullable) == (default, nullable)


async def test_generated(work: SqliteWork) -> None:
    """Both kinds of generated columns are the database's alone."""
    await work.execute("CREATE TABLE t (a INTEGER, b AS (a * 2), c INTEGER GENERATED ALWAYS AS (a * 3) STORED)")
    facts = await work.facts(table())
    assert [known.generated for known in facts.columns.values()] == [False, True, True]


async def test_unique_keys(work: SqliteWork) -> None:
    """The primary key comes first, then constraints, then indexes."""
    await work.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b TEXT, c TEXT UNIQUE, UNIQUE (b, a))",
        "CREATE UNIQUE INDEX more ON t (a)",
    )
    facts = await work.facts(table())
    assert facts.unique_keys == (
        UniqueKey("primary key", ("id",), primary=True),
        UniqueKey("sqlite_autoindex_t_1", ("c",)),
        UniqueKey("sqlite_autoindex_t_2", ("b", "a")),
        UniqueKey("more", ("a",)),
    )
    assert not facts.column("id").nullable


@pytest.mark.parametrize("suffix", ["", " WITHOUT ROWID", " STRICT"])
async def test_primary_keys_of_each_kind_of_table(work: SqliteWork, suffix: str) -> None:
    """A primary key that is not the rowid is found by its index."""
    await work.execute(f"CREATE TABLE t (a TEXT, b INTEGER, PRIMARY KEY (b, a)){suffix}")
    facts = await work.facts(table())
    assert facts.unique_key(None).columns == ("b", "a")
    assert facts.column("a").nullable is (suffix == "")


@pytest.mark.parametrize(
    "index",
    ["(a) WHERE b > 0", "(upper(a))", "(a COLLATE NOCASE)", "(b, upper(a))"],
)
async def test_unusable_keys(work: SqliteWork, index: str) -> None:
    """An index that leaves rows out, has an expression, or is blinder than its column tells no rows apart."""
    await work.execute("CREATE TABLE t (a TEXT, b INTEGER)", f"CREATE UNIQUE INDEX odd ON t {index}")
    assert (await work.facts(table())).unique_keys == ()


async def test_an_integer_key_that_is_not_the_rowid(work: SqliteWork) -> None:
    """By an old quirk, INTEGER PRIMARY KEY DESC is a column like any other: it makes no numbers."""
    await work.execute("CREATE TABLE t (id INTEGER PRIMARY KEY DESC, a TEXT)")
    facts = await work.facts(table())
    assert facts.unique_key(None).columns == ("id",)
    assert facts.column("id").default is None


async def test_rows_without_a_primary_key_are_refused(work: SqliteWork) -> None:
    """SQLite lets a primary key be NULL, and a walk would pass such a row over: a table is refused while it has one."""
    await work.execute("CREATE TABLE t (a TEXT PRIMARY KEY, b INTEGER)", "INSERT INTO t VALUES ('x', 1)")
    assert (await work.facts(table())).unique_key(None).columns == ("a",)
    await work.execute("INSERT INTO t VALUES (NULL, 2)")
    with pytest.raises(RequestError, match=r"has rows with NULL in their primary key \(a\)"):
        await work.facts(table())


async def test_missing(work: SqliteWork) -> None:
    """A table that is not there is told by name."""
    with pytest.raises(RequestError, match="'t' is registered, but this database has none of that name"):
        await work.facts(table())


async def test_deferred(work: SqliteWork) -> None:
    """A foreign key that waits for COMMIT concerns both of its tables, and no other."""
    await work.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY)",
        "CREATE TABLE u (id INTEGER PRIMARY KEY, t INTEGER REFERENCES t DEFERRABLE INITIALLY DEFERRED)",
        "CREATE TABLE v (id INTEGER PRIMARY KEY, t INTEGER REFERENCES t)",
    )
    assert [(await work.facts(table(of=name))).deferred for name in "tuv"] == [True, True, False]


@pytest.mark.parametrize(
    ("columns", "unique"),
    [
        (["id"], True),
        (["id", "a"], True),
        (["a"], False),
        (["b"], True),
        (["c"], True),
        (["a", "d"], True),
        ([], False),
    ],
)
async def test_may_be_unique(work: SqliteWork, columns: list[str], *, unique: bool) -> None:
    """Whatever may tell rows apart counts: the rowid, a key, and a partial one too."""
    await work.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b TEXT UNIQUE, c TEXT, d TEXT, UNIQUE (a, d))",
        "CREATE UNIQUE INDEX part ON t (c) WHERE c > ''",
    )
    async with work.database.reading() as connection:
        assert await may_be_unique(connection, table(), columns) is unique


async def test_nobody_can_say_of_a_view(work: SqliteWork) -> None:
    """A view has no keys, and may be unique all the same."""
    await work.execute("CREATE VIEW v AS SELECT 1 AS a")
    async with work.database.reading() as connection:
        assert await may_be_unique(connection, table(of="v"), ["a"])


async def test_odd_names(work: SqliteWork) -> None:
    """Names that need quoting are names."""
    odd = Table("o\"d'd %(x)s", MetaData(), Column('a "b"', Integer, primary_key=True), Column("select", String(5)))
    await work.create(odd)
    facts = await work.facts(odd)
    assert facts.unique_key(None).columns == ('a "b"',)
    assert facts.column("select").max_length == 5


FILLED = (
    "INSERT INTO t SELECT v, v % 7, v % 100, 'x' FROM "
    "(WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 1000) SELECT v FROM n)"
)


async def test_leading_columns(work: SqliteWork) -> None:
    """An index leads in its column's order; of one that goes on with the primary key no rows need be sorted."""
    await work.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER, c TEXT)",
        FILLED,
        "CREATE INDEX of_a ON t (a)",
        "CREATE INDEX of_b ON t (b, a)",
        "CREATE INDEX of_c ON t (c COLLATE NOCASE)",
    )
    async with work.database.reading() as connection:
        assert await leading_columns(connection, table()) == []
    assert (await work.facts(table())).estimated_rows is None
    await work.execute("ANALYZE")
    assert (await work.facts(table())).estimated_rows == 1000
    async with work.database.reading() as connection:
        assert sorted(await leading_columns(connection, table()), key=lambda found: found.name) == [
            LeadingColumn("a", 1.0),
            LeadingColumn("b", 10.0),
        ]


@pytest.mark.parametrize(("ending", "share"), [("", 143.0), (", b, c", 1.0), (" DESC, b, c", 143.0), (", c, b", 143.0)])
async def test_an_index_that_goes_on_with_a_key_of_several_columns(work: SqliteWork, ending: str, share: float) -> None:
    """A key that is not the rowid must stand in the index, in its own order and direction."""
    await work.execute(
        "CREATE TABLE t (b INTEGER NOT NULL, a INTEGER, c INTEGER NOT NULL, d TEXT, PRIMARY KEY (b, c))",
        FILLED,
        f"CREATE INDEX leading ON t (a{ending})",
        "ANALYZE",
    )
    async with work.database.reading() as connection:
        found = {known.name: known.rows_per_value for known in await leading_columns(connection, table())}
    assert found["a"] == share


async def test_without_rowid_an_index_goes_on_with_the_key(work: SqliteWork) -> None:
    """There the primary key follows in every index by itself."""
    await work.execute(
        "CREATE TABLE t (b INTEGER, a INTEGER, c INTEGER, d TEXT, PRIMARY KEY (b, c)) WITHOUT ROWID",
        FILLED,
        "CREATE INDEX leading ON t (a)",
        "ANALYZE",
    )
    async with work.database.reading() as connection:
        assert LeadingColumn("a", 1.0) in await leading_columns(connection, table())


async def test_estimates(work: SqliteWork) -> None:
    """Rows are counted up to a bound, beyond which it is as if all were meant."""
    await work.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER)",
        f"INSERT INTO t SELECT v, v % 2 FROM (WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n "
        f"WHERE v < {3 * COUNTED}) SELECT v FROM n)",
        "CREATE INDEX of_a ON t (a)",
        "ANALYZE",
    )
    numbers = table("id", "a")
    async with work.database.reading() as connection:
        assert await estimate_rows(connection, numbers, numbers.c.id <= 500) == 500
        assert await estimate_rows(connection, numbers, numbers.c.id > 5) == 3 * COUNTED


def all_types() -> Sequence[Any]:
    """What SQLAlchemy may give a column on SQLite."""
    return [
        sqltypes.Integer(),
        BigInteger(),
        sqltypes.SmallInteger(),
        sqltypes.Numeric(5, 2),
        sqltypes.Float(),
        sqltypes.Double(),
        String(5),
        sqltypes.Text(),
        sqltypes.Boolean(),
        sqltypes.Date(),
        sqltypes.DateTime(),
        sqltypes.Time(),
        sqltypes.JSON(),
        sqltypes.LargeBinary(),
        Uuid(),
    ]


@pytest.mark.parametrize(
    "kind", [*all_types(), "POINT", "CHARINT", "STRING", "", "BLOB_TEXT", "XREALX", "DATE"], ids=str
)
def test_affinities_are_sqlites_own(kind: Any) -> None:
    """What a type's name makes of values is what SQLite makes of them."""
    engine = create_engine("sqlite://")
    declared = kind if isinstance(kind, str) else kind.compile(engine.dialect)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE TABLE t (a {declared})")
        for value in ("'7'", "7", "7.0", "7.5"):
            connection.exec_driver_sql(f"INSERT INTO t VALUES ({value})")
        found = tuple(connection.exec_driver_sql("SELECT typeof(a) FROM t").scalars())
    engine.dispose()
    kept = {
        Affinity.INTEGER: ("integer", "integer", "integer", "real"),
        Affinity.NUMERIC: ("integer", "integer", "integer", "real"),
        Affinity.REAL: ("real",) * 4,
        Affinity.TEXT: ("text",) * 4,
        Affinity.BLOB: ("text", "integer", "real", "real"),
    }
    assert found == kept[affinity_of_name(declared, strict=False)]
