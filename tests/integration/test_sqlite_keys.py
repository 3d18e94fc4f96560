"""Keys on SQLite: their order, lists of them, walks by them, and merges against a plain model of the table."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, DateTime, Integer, LargeBinary, MetaData, Numeric, String, Table, Uuid, select

from tests.support.sqlite_tables import Row, SqliteWork, sqlite_work
from worker.core.cursor import read_key, write_key
from worker.core.merge_counts import MergeCounts
from worker.core.update_counts import UpdateCounts
from worker.database.sqlite.merge import SqliteMerge
from worker.database.sqlite.row_update import SqliteWhereUpdate
from worker.declare.row_order import PLACE, KeyValues
from worker.declare.walk import Walk, primary_walk

DAY = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def work(tmp_path: Path) -> AsyncIterator[SqliteWork]:
    """A file of the test's own."""
    async with sqlite_work(tmp_path / "test.db") as found:
        yield found


async def test_key_order(work: SqliteWork) -> None:
    """Rows come in the order of their keys as the database compares them, those of one key together."""
    await work.execute("CREATE TABLE t (a TEXT COLLATE NOCASE, b INTEGER, n INTEGER, PRIMARY KEY (a, b))")
    table = Table("t", MetaData(), Column("a", String), Column("b", Integer), Column("n", Integer))
    merge = SqliteMerge(table, await work.facts(table), columns=["n", "b", "a"], key=["a", "b"], update=["n"])
    async with work.database.engine.begin() as connection:
        values: list[list[object]] = [[0] * 5, [2, 1, 2, 10, 9], ["b", "B", "B", "a", "A"]]
        assert await merge.in_key_order(connection, values) == [[4], [3], [1], [0, 2]]


async def walked(work: SqliteWork, walk: Walk, rows: int) -> list[KeyValues]:
    """The last keys of a walk's spans, each saved as a cursor and read again."""
    edges: list[KeyValues] = []
    async with work.database.reading() as connection:
        until = tuple((await connection.execute(walk.last())).one())
        while not edges or edges[-1] != until:
            found = (await connection.execute(walk.edge(edges[-1] if edges else None, until, rows))).one()
            edges.append(read_key(write_key(tuple(found[:-1]))))
    return edges


KEYS: dict[str, tuple[str, Any, list[str]]] = {
    "integers": ("INTEGER", Integer(), ["-9223372036854775808", "-1", "0", "9007199254740993", "9223372036854775807"]),
    "floats": ("REAL", Numeric(), ["-1e300", "0.1", "0.30000000000000004", "0.3000000000000001", "9e999"]),
    "decimals": ("NUMERIC(12,2)", Numeric(12, 2), ["-5", "0.1", "0.2", "1", "1.5"]),
    "texts": ("TEXT", String(), ["''", "'A'", "'a'", "'a '", "'ä'"]),
    "folded texts": ("TEXT COLLATE NOCASE", String(), ["'a'", "'B'", "'c'", "'D'", "'ä'"]),
    "blobs": ("BLOB", LargeBinary(), ["x''", "x'00'", "x'0000'", "x'7f'", "x'ff'"]),
    "moments": ("DATETIME", DateTime(), ["'0001-01-01'", "'2026-01-01'", "'2026-01-01 00:00:00'", "'9'"]),
    "uuids": ("CHAR(32)", Uuid(), [f"'{part * 4}'" for part in ("00000000", "00000001", "a0000000")]),
    "anything": ("", String(), ["-1", "0.5", "7", "'7'", "x'37'"]),
}  # fmt: skip


@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("kind", KEYS)
async def test_a_walk_meets_each_row_once(work: SqliteWork, kind: str, rows: int) -> None:
    """A place in a table is kept exactly, whatever its key holds and whatever its model makes of that."""
    declared, model, values = KEYS[kind]
    await work.execute(
        f"CREATE TABLE t (id {declared} NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (id, n))",
        *(f"INSERT INTO t VALUES ({value}, {n})" for value in reversed(values) for n in (2, 1)),
    )
    table = Table("t", MetaData(), Column("id", model, primary_key=True), Column("n", Integer, primary_key=True))
    walk = primary_walk(table, await work.facts(table))
    edges = await walked(work, walk, rows)
    met: list[KeyValues] = []
    async with work.database.reading() as connection:
        for after, upto in zip([None, *edges], edges, strict=False):
            keys = select(*walk.row_order.read()).where(walk.between(after, upto)).order_by(*walk.key)
            span = [tuple(row) for row in await connection.execute(keys)]
            assert len(span) <= rows
            met += span
    assert met == await work.rows("SELECT id, n FROM t ORDER BY id, n")
    assert len(set(met)) == 2 * len(values)


async def test_a_list_of_keys_is_a_table(work: SqliteWork) -> None:
    """Keys are joined with their rows, compared as the column compares, and found by its index."""
    await work.execute(
        "CREATE TABLE t (a TEXT COLLATE NOCASE NOT NULL, b INTEGER NOT NULL, PRIMARY KEY (a, b))",
        "INSERT INTO t VALUES ('x', 1), ('Y', 2), ('z', 3)",
    )
    table = Table("t", MetaData(), Column("a", String, primary_key=True), Column("b", Integer, primary_key=True))
    order = primary_walk(table, await work.facts(table)).row_order
    listed = order.listed([("X", 1), ("q", 1), ("y", 2), ("y", 2)])
    found = select(*order.read(), listed.c[PLACE]).join_from(table, listed, order.matches(listed)).order_by(PLACE)
    async with work.database.reading() as connection:
        assert [tuple(row) for row in await connection.execute(found)] == [("x", 1, 0), ("Y", 2, 2), ("Y", 2, 3)]
        among = select(table.c.b).where(order.among([("X", 1), ("y", 2), ("z", 1)]))
        assert set((await connection.execute(among)).scalars()) == {1, 2}


async def test_the_same_values_for_many(work: SqliteWork) -> None:
    """Rows that a condition means get the values; those that have them are not written."""
    await work.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT COLLATE NOCASE, d DATETIME, seen TEXT)",
        "INSERT INTO t (id, a, d) VALUES (1, 'x', NULL), (2, 'X', '2026-01-01 00:00:00.000000'), (3, 'x', NULL), "
        "(4, NULL, NULL)",
    )
    columns = (Column("a", String), Column("d", DateTime), Column("seen", String, onupdate="touched"))
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True), *columns)
    changing = SqliteWhereUpdate(table, await work.facts(table), {"a": "X", "d": DAY})
    async with work.database.engine.begin() as connection:
        assert await changing.apply(connection, table.c.id != 3) == UpdateCounts(updated=2, unchanged=1)
    day = "2026-01-01 00:00:00.000000"
    assert await work.rows("SELECT * FROM t ORDER BY id") == [
        (1, "X", day, "touched"),
        (2, "X", day, None),
        (3, "x", None, None),
        (4, "X", day, "touched"),
    ]


names = st.sampled_from(["a", "A", "b", "B ", "b", "ä", "Ä"])
rows = st.lists(
    st.fixed_dictionaries(
        {
            "name": names,
            "number": st.integers(0, 3),
            "price": st.none() | st.sampled_from([Decimal(0), Decimal(1), Decimal("1.50"), Decimal("0.10")]),
            "note": st.none() | st.sampled_from(["x", "X", "", "7"]),
        }
    ),
    min_size=1,
    max_size=12,
)


def folded(row: Row) -> tuple[str, int]:
    """A key as a table with NOCASE compares it: ASCII letters only."""
    return "".join(chr(ord(letter) + 32) if "A" <= letter <= "Z" else letter for letter in row["name"]), row["number"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=st.lists(rows, min_size=1, max_size=4))
async def test_any_chunks_leave_what_a_dictionary_would(work: SqliteWork, chunks: list[list[Row]]) -> None:
    """Table and counts are those of a plain model, and updates of the same rows find nothing to do."""
    await work.execute(
        "DROP TABLE IF EXISTS t",
        "CREATE TABLE t (name TEXT COLLATE NOCASE NOT NULL, number INTEGER NOT NULL, price NUMERIC(6,2), note TEXT, "
        "PRIMARY KEY (name, number))",
    )
    columns = (
        Column("name", String),
        Column("number", Integer),
        Column("price", Numeric(6, 2)),
        Column("note", String),
    )
    table = Table("t", MetaData(), *columns)
    model: dict[tuple[str, int], Row] = {}
    for chunk in chunks:
        last = {folded(row): row for row in chunk}
        new = [key for key in last if key not in model]
        changed = [key for key in last if key in model and worth(model[key]) != worth(last[key])]
        # the key itself stays as it was spelt first: `update` does not name it
        for key, row in last.items():
            model[key] = row if key in new else {**row, "name": model[key]["name"]}
        expected = MergeCounts(
            inserted=len(new),
            updated=len(changed),
            unchanged=len(last) - len(new) - len(changed),
            duplicates=len(chunk) - len(last),
        )
        assert await work.upsert(table, chunk, key=["name", "number"]) == expected
        again = await work.update(table, chunk, key=["name", "number"])
        assert again == UpdateCounts(updated=0, unchanged=len(last), duplicates=expected.duplicates)
    stored = await work.rows("SELECT name, number, CAST(price AS TEXT), note FROM t")
    assert sorted(map(repr, stored)) == sorted(
        repr((row["name"], row["number"], *worth(row))) for row in model.values()
    )


def worth(row: Row) -> tuple[str | None, str | None]:
    """What a merge compares."""
    price = row["price"]
    return (None if price is None else f"{price:f}".rstrip("0").rstrip(".") if price else "0"), row["note"]
