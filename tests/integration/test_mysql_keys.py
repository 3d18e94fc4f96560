"""Keys of every type: on a MariaDB, too, a walk meets each row once, in the table's own order, by its index."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, Select, String, Table, Text, func, literal, select, text, update
from sqlalchemy.dialects import mysql as own
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.support.mysql_tables import Merging
from worker.core.cursor import read_key, write_key
from worker.database.mysql import key_list
from worker.declare.row_order import exact_type
from worker.declare.walk import Walk, primary_walk

_ = key_list

CASES: dict[str, tuple[str, list[str]]] = {
    "tinyint": ("tinyint", ["-128", "0", "127"]),
    "bigint": ("bigint", ["-9223372036854775808", "-1", "9007199254740992", "9007199254740993", "9223372036854775807"]),
    "bigint unsigned": ("bigint unsigned", ["0", "9223372036854775807", "9223372036854775808", "18446744073709551615"]),
    "decimal": (
        "decimal(65,30)",
        ["-1e-30", "0", "0.000000000000000000000000000001", "99999999999999999999999999999999999"],
    ),
    "float": ("float", ["-3.4e38", "-0.1", "0", "0.1", "0.100001", "16777216", "3.4e38"]),
    "double": ("double", ["-1e308", "-5e-324", "0", "5e-324", "0.1", "0.30000000000000004", "1e308"]),
    "varchar": (
        "varchar(9)",
        ["'a'", "'B'", "'c'", "'D'", "'z'", "'ä1'", "'_'", "''", "'a b'", "'ab'", "'𝄞'", r"'a\\b'"],
    ),
    "varchar in bytes": ("varchar(9) COLLATE utf8mb4_nopad_bin", ["'a'", "'A'", "'a '", "' a'", "'ä'", "''", "'𝄞'"]),
    "varchar padded": ("varchar(9) COLLATE utf8mb4_bin", ["'a'", "'A'", r"'a\t'", "'a b'", "'ab'", "''"]),
    "varchar of latin1": ("varchar(9) CHARACTER SET latin1", ["'a'", "'B'", "'é1'", "'ü'", "'z'"]),
    "varchar of swedish": ("varchar(9) COLLATE utf8mb4_swedish_ci", ["'a'", "'o'", "'ö'", "'å'", "'z'"]),
    "char": ("char(4)", ["'a'", r"'a\t'", "'a b'", "'ab'", "''"]),
    "varbinary": ("varbinary(9)", ["''", "x'00'", "x'0000'", "x'7f'", "x'ff'", "'%s'"]),
    "binary": ("binary(4)", ["x'00'", "x'0001'", "x'ff'", "'a'"]),
    "date": ("date", ["'0001-01-01'", "'1969-12-31'", "'9999-12-31'"]),
    "datetime": ("datetime(6)", [f"'2024-03-31 02:30:00.{micro:06}'" for micro in (0, 1, 2, 999_998, 999_999)]),
    "datetime of milliseconds": ("datetime(3)", [f"'2024-03-31 02:30:00.{milli:03}'" for milli in (0, 1, 999)]),
    "timestamp": ("timestamp(6)", [f"'2024-03-31 02:30:00.{micro:06}'" for micro in (0, 1, 999_999)]),
    "time": (
        "time(6)",
        ["'-838:59:59'", "'-00:00:00.000001'", "'00:00:00'", "'99:00:00'", "'100:00:00'", "'838:59:59'"],
    ),
    "year": ("year", ["1901", "1999", "2000", "2155"]),
    "bit": ("bit(64)", ["0", "9", "10", "255", "256", "18446744073709551615"]),
    "enum": ("enum('wild','calm','blue')", ["'wild'", "'calm'", "'blue'"]),
    "set": ("set('z','b','a')", ["''", "'z'", "'b'", "'z,b'", "'a'"]),
    "uuid": ("uuid", [f"'{digit}0000000-0000-4000-8000-00000000000{digit}'" for digit in "0179af"]),
    "inet6": ("inet6", ["'::1'", "'::2'", "'1::'"]),
    "boolean": ("boolean", ["0", "1", "5"]),
}


def table_of(*columns: str) -> Table:
    """A table whose model knows little of its columns."""
    return Table("t", MetaData(), *(Column(name, String(99), primary_key=True) for name in columns))


async def keys_of(connection: AsyncConnection, statement: Any) -> list[tuple[Any, ...]]:
    """The rows of a query, each through a cursor as it is saved."""
    return [read_key(write_key(tuple(row))) for row in await connection.execute(statement)]


async def walked(connection: AsyncConnection, walk: Walk, rows: int) -> list[tuple[Any, ...]]:
    """The keys that a walk meets, so many at a time."""
    met: list[tuple[Any, ...]] = []
    (until,) = await keys_of(connection, walk.last())
    after = None
    while True:
        edge = (await connection.execute(walk.edge(after, until, rows))).first()
        if edge is None:
            return met
        end = read_key(write_key(tuple(edge)[:-1]))
        span = walk.keys().where(walk.between(after, end))
        met += await keys_of(connection, span)
        after = end


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("case", CASES)
async def test_a_walk_meets_each_row_once(merging: Merging, case: str, rows: int) -> None:
    """Whatever the type, no row is left out and none is met twice, in the order of the index."""
    declaration, values = CASES[case]
    await merging.execute(f"CREATE TABLE t (k {declaration} NOT NULL PRIMARY KEY) CHARACTER SET utf8mb4")
    table = table_of("k")
    walk = primary_walk(table, await merging.facts(table))
    async with merging.engine.begin() as connection:
        for value in values:
            await connection.execute(text(f"INSERT INTO t VALUES ({value.replace(':', chr(92) + ':')})"))
        met = await walked(connection, walk, rows)
        assert len(met) == len(values)
        ordered = (await connection.execute(text("SELECT CAST(k AS BINARY) FROM t ORDER BY k"))).scalars().all()
        again = [await look_up(connection, walk, key) for key in met]
        assert again == list(ordered)


async def test_the_end_of_a_span_is_found_without_reading_what_lies_behind_it(merging: Merging) -> None:
    """However many rows are left, finding where the next ten end reads some tens."""
    await merging.execute("CREATE TABLE t (a int, b int, PRIMARY KEY (a, b))")
    table = table_of("a", "b")
    walk = primary_walk(table, await merging.facts(table))
    async with merging.engine.begin() as connection:
        await connection.execute(text("INSERT INTO t SELECT seq % 7, seq FROM seq_1_to_5000"))
        (until,) = await keys_of(connection, walk.last())
        before = await rows_read(connection)
        (end,) = await keys_of(connection, walk.edge((3, 3000), until, 10))
        assert end == (3, 3069, 10)
        assert await rows_read(connection) - before < 100


async def rows_read(connection: AsyncConnection) -> int:
    """How many rows the session has read from tables and indexes."""
    found = await connection.execute(text("SHOW SESSION STATUS LIKE 'Handler_read%'"))
    return sum(int(row[1]) for row in found)


async def look_up(connection: AsyncConnection, walk: Walk, key: tuple[Any, ...]) -> Any:
    """What the one row of a key holds, found in each of the ways in which rows are found."""
    raw = text("CAST(k AS BINARY)")
    order = walk.row_order
    listed = order.listed([key])
    ways: Sequence[Select[Any]] = (
        select(raw).select_from(walk.table).where(order.among([key])),
        select(raw).select_from(walk.table).where(walk.within(key, key)),
        select(raw).select_from(walk.table.join(listed, order.matches(listed))),
    )
    found = [(await connection.execute(way)).scalars().all() for way in ways]
    assert found[0] == found[1] == found[2]
    ((one,),) = (found[0],)
    return one


# the planner has no ranges of these
@pytest.mark.parametrize("case", sorted(CASES.keys() - {"enum", "set"}))
async def test_walks_use_the_index(merging: Merging, case: str) -> None:
    """Rows after a key, and those of a list of keys, are found by the index, not by looking at all."""
    declaration, values = CASES[case]
    await merging.execute(
        f"CREATE TABLE t (k {declaration} NOT NULL, n int NOT NULL, PRIMARY KEY (k, n)) CHARACTER SET utf8mb4"
    )
    table = Table(
        "t", MetaData(), Column("k", String(99), primary_key=True), Column("n", own.INTEGER, primary_key=True)
    )
    async with merging.engine.begin() as connection:
        for value in values:
            escaped = value.replace(":", chr(92) + ":")
            await connection.execute(text(f"INSERT INTO t SELECT {escaped}, seq FROM seq_1_to_300"))
    await merging.execute("ANALYZE TABLE t")
    walk = primary_walk(table, await merging.facts(table))
    async with merging.engine.begin() as connection:
        keys = await keys_of(connection, walk.keys())
        middle = keys[len(keys) // 2]
        order = walk.row_order
        listed = order.listed([middle])
        statements = [
            walk.keys().where(order.after(middle)).limit(5),
            select(table).where(order.among([middle])),
            select(table.c.n).select_from(table.join(listed, order.matches(listed))),
        ]
        assert (await connection.execute(select(func.count()).where(order.after(middle)))).scalar_one() == len(keys) - (
            len(keys) // 2 + 1
        )
        for statement in statements:
            handlers = await handler_reads(connection, statement)
            assert handlers < 60, statement


async def handler_reads(connection: AsyncConnection, statement: Any) -> int:
    """How many rows a query makes the engine look at."""
    await connection.execute(text("FLUSH STATUS"))
    await connection.execute(statement)
    counted = text("SHOW SESSION STATUS LIKE 'Handler_read_%'")
    return sum(
        int(row[1])
        for row in await connection.execute(counted)
        if row[0] in {"Handler_read_next", "Handler_read_rnd_next", "Handler_read_prev"}
    )


async def test_a_key_of_two_columns(merging: Merging) -> None:
    """Rows are met in the order of both, where the first repeats."""
    await merging.execute(
        "CREATE TABLE t (a varchar(9), b datetime(6), PRIMARY KEY (a, b));"
        "INSERT INTO t SELECT ELT(seq MOD 3 + 1, 'x', 'Y', 'z'), '2024-01-01' + INTERVAL seq MICROSECOND"
        " FROM seq_1_to_60"
    )
    table = table_of("a", "b")
    walk = primary_walk(table, await merging.facts(table))
    async with merging.engine.begin() as connection:
        for rows in (1, 7):
            met = await walked(connection, walk, rows)
            assert met == await keys_of(connection, walk.keys())
            assert len(set(met)) == 60


async def test_values_of_enumerations_are_stored_as_their_labels(merging: Merging) -> None:
    """What an update by the exact type writes is what was meant, though it is compared by number."""
    await merging.execute(
        "CREATE TABLE t (k int PRIMARY KEY, e enum('b','a'), s set('y','x')); INSERT INTO t VALUES (1,'b','')"
    )
    table = Table("t", MetaData(), Column("k", own.INTEGER, primary_key=True), Column("e", Text), Column("s", Text))
    facts = await merging.facts(table)
    async with merging.engine.begin() as connection:
        await connection.execute(
            update(table).values(
                e=literal("a", exact_type(facts.column("e"))), s=literal("x,y", exact_type(facts.column("s")))
            )
        )
    assert await merging.content(table) == [(1, "a", "y,x")]
