"""What MariaDB's catalogue, planner and surroundings tell of tables, and how rows leave one, on a real server."""

from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Numeric, Table, event, func, insert, select
from sqlalchemy.dialects.mysql import BIT
from sqlalchemy.engine import Connection

from tests.support.mysql_tables import Merging
from worker.core.errors import KeyNotUniqueError, RequestError
from worker.core.preflight import Trigger
from worker.core.table_facts import UniqueKey
from worker.core.walk_choice import LeadingColumn
from worker.database.mysql.catalogue import may_be_unique
from worker.database.mysql.planner import estimate_rows, leading_columns
from worker.database.mysql.removal import advice, move_rows, take_rows
from worker.database.mysql.surroundings import read_surroundings
from worker.output.columns import written


def named(name: str, *columns: str) -> Table:
    """A table of that name, with integer columns."""
    return Table(name, MetaData(), *(Column(column, Integer, primary_key=column == "id") for column in columns))


@pytest.mark.parametrize("engine", ["MyISAM", "Aria", "MEMORY"])
async def test_engines_without_transactions_are_refused(merging: Merging, engine: str) -> None:
    """A table whose changes cannot be taken back is refused, with what to do about it."""
    await merging.execute(f"CREATE TABLE t (id int PRIMARY KEY) ENGINE={engine}")
    with pytest.raises(RequestError, match=rf"engine {engine}, which has no transactions.*ALTER TABLE t ENGINE=InnoDB"):
        await merging.facts(named("t"))


async def test_a_table_that_is_not_there(merging: Merging) -> None:
    """It is refused by name."""
    with pytest.raises(RequestError, match="'nowhere' is registered, but this database has none of that name"):
        await merging.facts(named("nowhere"))


async def test_a_view_has_columns_and_no_key(merging: Merging) -> None:
    """A view may be read; nothing tells its rows apart."""
    await merging.execute("CREATE TABLE t (id int PRIMARY KEY, n int); CREATE VIEW v AS SELECT * FROM t")
    facts = await merging.facts(named("v"))
    assert list(facts.columns) == ["id", "n"]
    with pytest.raises(KeyNotUniqueError):
        facts.unique_key(None)


async def test_names_of_one_spelling(merging: Merging) -> None:
    """Tables whose names differ in case are different tables."""
    await merging.execute("CREATE TABLE orders (id int PRIMARY KEY, a int); CREATE TABLE Orders (id int, b int)")
    assert list((await merging.facts(named("orders"))).columns) == ["id", "a"]
    assert list((await merging.facts(named("Orders"))).columns) == ["id", "b"]


async def test_unique_keys(merging: Merging) -> None:
    """A key is a whole one over plain columns: no beginning of a text, no hash, nothing that is ignored."""
    await merging.execute(
        "CREATE TABLE t (a int, b int, c varchar(20) NOT NULL, d text, e int, PRIMARY KEY (b, a), UNIQUE one (c),"
        " UNIQUE part (c(3)), UNIQUE hashed (d), UNIQUE unseen (e) IGNORED, KEY plain (e))"
    )
    facts = await merging.facts(named("t"))
    assert facts.unique_keys == (UniqueKey("PRIMARY", ("b", "a"), primary=True), UniqueKey("one", ("c",)))
    async with merging.engine.connect() as connection:
        for columns, unique in ((["a", "b", "x"], True), (["a"], False), (["c"], True), (["d"], True), (["e"], True)):
            assert await may_be_unique(connection, named("t"), columns) is unique


@pytest.mark.parametrize(
    ("declaration", "expected"),
    [
        ("tinyint(1) NOT NULL", ("boolean", "boolean", "bool", -128, 127)),
        ("tinyint", ("tinyint", "tinyint", "int2", -128, 127)),
        ("smallint unsigned", ("smallint unsigned", "smallint unsigned", "int4", 0, 65535)),
        ("mediumint", ("mediumint", "mediumint", "int4", -(2**23), 2**23 - 1)),
        ("int(5) unsigned zerofill", ("integer unsigned", "integer unsigned", "int8", 0, 2**32 - 1)),
        ("bigint unsigned", ("bigint unsigned", "bigint unsigned", "int8", 0, 2**64 - 1)),
        ("decimal(12,2)", ("numeric", "numeric(12,2)", "numeric", None, None)),
        ("decimal", ("numeric", "numeric(10,0)", "numeric", None, None)),
        ("float", ("real", "real", "float4", None, None)),
        ("double", ("double precision", "double precision", "float8", None, None)),
        ("char(3)", ("character", "character(3)", "text", None, None)),
        ("varchar(3)", ("character varying", "character varying(3)", "text", None, None)),
        ("tinytext", ("text", "tinytext", "text", None, None)),
        ("longtext", ("text", "text", "text", None, None)),
        ("binary(3)", ("binary", "binary(3)", "bytea", None, None)),
        ("varbinary(3)", ("binary varying", "varbinary(3)", "bytea", None, None)),
        ("mediumblob", ("binary large object", "mediumblob", "bytea", None, None)),
        ("bit(3)", ("bit", "bit(3)", "int8", 0, 7)),
        ("year", ("year", "year", "int2", 1901, 2155)),
        ("date", ("date", "date", "date", None, None)),
        ("time(3)", ("time without time zone", "time(3) without time zone", "time", None, None)),
        (
            "datetime",
            ("timestamp without time zone", "timestamp(0) without time zone", "timestamp", None, None),
        ),
        (
            "datetime(6)",
            ("timestamp without time zone", "timestamp without time zone", "timestamp", None, None),
        ),
        (
            "timestamp(6) NULL",
            ("timestamp with time zone", "timestamp with time zone", "timestamptz", None, None),
        ),
        ("json", ("json", "json", "text", None, None)),
        ("enum('a','b')", ("enum", "enum('a','b')", "text", None, None)),
        ("uuid", ("uuid", "uuid", "uuid", None, None)),
        ("point", ("geometry", "point", "bytea", None, None)),
    ],
)
async def test_types_in_the_standards_words(merging: Merging, declaration: str, expected: tuple[Any, ...]) -> None:
    """What a column is called, which Python values the driver takes, and the range of integers."""
    await merging.execute(f"CREATE TABLE t (id int PRIMARY KEY, a {declaration})")
    facts = (await merging.facts(named("t"))).column("a")
    assert (facts.type_name, facts.full_type, facts.driver_type, facts.minimum, facts.maximum) == expected


@pytest.mark.parametrize(
    ("collation", "sees"),
    [
        ("utf8mb4_general_ci", False),
        ("utf8mb4_bin", False),
        ("utf8mb4_nopad_bin", True),
        ("utf8mb4_unicode_nopad_ci", False),
        ("latin1_nopad_bin", True),
    ],
)
async def test_which_collations_see_every_change(merging: Merging, collation: str, sees: bool) -> None:  # noqa: FBT001 - pytest passes it by name
    """Only those that compare bytes, blanks at the end among them."""
    await merging.execute(f"CREATE TABLE t (id int PRIMARY KEY, a varchar(9) COLLATE {collation})")
    facts = (await merging.facts(named("t"))).column("a")
    assert (facts.comparable, facts.collation, facts.max_length) == (sees, collation, 9)


async def test_defaults_and_what_is_generated(merging: Merging) -> None:
    """Defaults are told as SQL, also that of a column which the database numbers."""
    await merging.execute(
        "CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY, a varchar(9) DEFAULT 'it''s', b datetime(6) DEFAULT now(6),"
        " c int DEFAULT NULL, d int AS (id + 1) VIRTUAL, e int NOT NULL)"
    )
    columns = (await merging.facts(named("t"))).columns
    assert {name: facts.default for name, facts in columns.items()} == {
        "id": "auto_increment",
        "a": "'it''s'",
        "b": "current_timestamp(6)",
        "c": None,
        "d": None,
        "e": None,
    }
    assert [name for name, facts in columns.items() if facts.generated] == ["d"]
    assert [name for name, facts in columns.items() if not facts.nullable] == ["id", "e"]


async def test_leading_columns(merging: Merging) -> None:
    """An index leads by its first column, and goes on with the primary key unless another column comes between."""
    await merging.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b int NOT NULL, c varchar(9), d int,"
        " KEY (a), KEY (b, a), KEY (c(3)), KEY (d, id));"
        "INSERT INTO t SELECT seq, seq MOD 10, seq MOD 5, 'x', seq FROM seq_1_to_1000; ANALYZE TABLE t"
    )
    table = named("t", "id", "a", "b", "c", "d")
    async with merging.engine.connect() as connection:
        found = {leading.name: leading for leading in await leading_columns(connection, table)}
        assert found.keys() == {"id", "a", "b", "d"}
        assert {found["id"], found["a"], found["d"]} == {LeadingColumn(name, 1) for name in ("id", "a", "d")}
        assert 50 < found["b"].rows_per_value < 400
        assert await estimate_rows(connection, table, table.c.a == 3) in range(50, 200)
        assert await estimate_rows(connection, table, table.c.id < 0) <= 1
        assert await estimate_rows(connection, table, table.c.id > 0) in range(500, 2000)


async def test_surroundings(merging: Merging) -> None:
    """Foreign keys that refer to a table are found, and those that a cascade reaches; and its triggers, by event."""
    await merging.execute(
        "CREATE TABLE a (x int, y int, PRIMARY KEY (x, y));"
        "CREATE TABLE b (id int PRIMARY KEY, x int, y int,"
        " CONSTRAINT b_a FOREIGN KEY (x, y) REFERENCES a (x, y) ON DELETE CASCADE ON UPDATE SET NULL);"
        "CREATE TABLE c (id int, CONSTRAINT c_b FOREIGN KEY (id) REFERENCES b (id) ON DELETE RESTRICT);"
        "CREATE TRIGGER gone AFTER DELETE ON a FOR EACH ROW SET @gone = 1;"
        "CREATE TRIGGER come AFTER INSERT ON a FOR EACH ROW SET @come = 1"
    )
    async with merging.engine.connect() as connection:
        around = await read_surroundings(connection, named("a", "x"), "delete")
        assert [
            (found.name, found.table, found.columns, found.target, found.targets, found.on_delete, found.on_update)
            for found in around.references
        ] == [
            ("b_a", "b", ("x", "y"), "a", ("x", "y"), "cascade", "set null"),
            ("c_b", "c", ("id",), "b", ("id",), "restrict", "restrict"),
        ]
        assert all(found.indexed for found in around.references)
        assert around.triggers == (Trigger("gone", each_row=True),)
        assert [
            found.name for found in (await read_surroundings(connection, named("a", "x"), "update")).references
        ] == ["b_a"]


async def test_a_partitioned_table(merging: Merging) -> None:
    """It is known as one, and rows are merged across its partitions."""
    await merging.execute(
        "CREATE TABLE t (id int, n int, PRIMARY KEY (id)) PARTITION BY RANGE (id)"
        " (PARTITION low VALUES LESS THAN (10), PARTITION high VALUES LESS THAN MAXVALUE)"
    )
    table = named("t", "id", "n")
    assert (await merging.facts(table)).partitioned
    rows = [{"id": key, "n": 1} for key in (1, 9, 10, 11)]
    assert (await merging.upsert(table, rows)).inserted == 4
    changed = [{"id": key, "n": 1 + key % 2} for key in (11, 10, 9, 12)]
    counts = await merging.upsert(table, changed)
    assert (counts.inserted, counts.updated, counts.unchanged) == (1, 2, 1)


def leaving() -> tuple[Table, Table]:
    """A table, and its archive."""
    both = [
        Table(name, MetaData(), Column("id", Integer, primary_key=True), Column("amount", Numeric(12, 2), key="sum"))
        for name in ("orders", "archived")
    ]
    return both[0], both[1]


async def test_rows_move_into_another_table(merging: Merging) -> None:
    """Rows for which a condition holds are in the other table, whole, and in the first no more."""
    orders, archived = leaving()
    for table in (orders, archived):
        await merging.create(table)
    await merging.execute("INSERT INTO orders SELECT seq, seq / 3 FROM seq_1_to_10")
    async with merging.engine.begin() as connection:
        assert await move_rows(connection, orders, archived, ["id", "amount"], orders.c.id > 4) == (6, 6)
    assert [row[0] for row in await merging.content(orders)] == [1, 2, 3, 4]
    assert [row[0] for row in await merging.content(archived)] == [5, 6, 7, 8, 9, 10]


async def test_rows_are_taken(merging: Merging) -> None:
    """Rows are returned in an order, and gone."""
    orders, _ = leaving()
    await merging.create(orders)
    await merging.execute("INSERT INTO orders SELECT seq, seq / 4 FROM seq_1_to_10")
    async with merging.engine.begin() as connection:
        taken = await take_rows(connection, orders, [orders.c["sum"]], orders.c.id > 7, [orders.c.id])
    assert [str(row[0]) for row in taken] == ["2.00", "2.25", "2.50"]
    assert len(await merging.content(orders)) == 7


async def test_a_row_that_is_added_in_between_goes_along(merging: Merging) -> None:
    """A row that another session adds between the copy and the delete is copied, too."""
    orders, archived = leaving()
    for table in (orders, archived):
        await merging.create(table)
    await merging.execute("INSERT INTO orders VALUES (1, 1)")
    added: list[int] = []

    def add(connection: Connection, _: object, statement: str, *__: object) -> None:
        if statement.startswith("DELETE") and not added:
            added.append(2)
            with connection.engine.connect() as other:
                other.execute(insert(orders), {"id": 2, "sum": 2})
                other.commit()

    event.listen(merging.engine.sync_engine, "before_cursor_execute", add)
    async with merging.engine.begin() as connection:
        assert await move_rows(connection, orders, archived, ["id", "amount"], orders.c.id > 0) == (2, 2)
    assert added == [2]
    assert [row[0] for row in await merging.content(archived)] == [1, 2]


def test_advice_names_what_to_do() -> None:
    """It says how room is given back, and what that costs."""
    assert "OPTIMIZE TABLE orders" in advice(leaving()[0])


async def test_a_counted_lock_is_a_lock(merging: Merging) -> None:
    """Rows that a subquery locks are locked, though only their number is asked for."""
    await merging.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT seq FROM seq_1_to_9")
    table = named("t", "id")
    locking = select(table.c.id).where(table.c.id.between(3, 5)).order_by(table.c.id).with_for_update(key_share=True)
    counting = select(func.count()).select_from(locking.subquery("locked"))
    async with merging.engine.connect() as one, merging.engine.connect() as other:
        assert (await one.execute(counting)).scalar_one() == 3
        free = select(table.c.id).with_for_update(skip_locked=True)
        assert (await other.execute(free)).scalars().all() == [1, 2, 6, 7, 8, 9]


async def test_bits_as_text_are_a_number(merging: Merging) -> None:
    """What an export asks for as text is written in digits, which read back as the same bits."""
    await merging.execute("CREATE TABLE t (id int PRIMARY KEY, b bit(9)); INSERT INTO t VALUES (1, 257)")
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("b", BIT(9)))
    async with merging.engine.connect() as connection:
        assert (await connection.execute(select(written(table.c.b)))).scalar_one() == "257"
