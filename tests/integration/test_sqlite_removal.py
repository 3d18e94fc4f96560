"""Deletes on SQLite whose rows go on into another table, or to whoever takes them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, LargeBinary, MetaData, String, Table, exc

from tests.support.sqlite_tables import SqliteWork, sqlite_work
from worker.core.errors import RequestError
from worker.database.sqlite.removal import advice, move_rows, take_rows

KEEPS_TWO = "CREATE TRIGGER keep BEFORE DELETE ON t WHEN old.id = 2 BEGIN SELECT RAISE(IGNORE); END"


def log(name: str) -> Table:
    """A table, or its archive."""
    columns = (Column("id", Integer, primary_key=True), Column("a", String), Column("b", LargeBinary, key="odd"))
    return Table(name, MetaData(), *columns)


TABLE, ARCHIVE = log("t"), log("gone")


@pytest.fixture
async def work(tmp_path: Path) -> AsyncIterator[SqliteWork]:
    """A file of the test's own, with rows and an empty archive."""
    async with sqlite_work(tmp_path / "test.db") as found:
        await found.create(TABLE)
        await found.create(ARCHIVE)
        await found.execute("INSERT INTO t VALUES (3, 'c', x'00ff'), (1, 'A', NULL), (2, 'b', x''), (4, 'd', NULL)")
        yield found


async def move(work: SqliteWork, most: int) -> tuple[int, int]:
    """Move rows by their ids."""
    async with work.database.engine.begin() as connection:
        return await move_rows(connection, TABLE, ARCHIVE, ["id", "a", "b"], TABLE.c.id <= most)


async def take(work: SqliteWork, most: int) -> list[tuple[object, ...]]:
    """Take rows by their ids, sorted by text."""
    async with work.database.engine.begin() as connection:
        taken = await take_rows(connection, TABLE, [TABLE.c.a, TABLE.c.odd], TABLE.c.id <= most, [TABLE.c.a])
        return [tuple(row) for row in taken]


async def test_rows_are_moved(work: SqliteWork) -> None:
    """What is gone from the one is in the other, to the byte."""
    assert await move(work, 3) == (3, 3)
    assert await work.rows("SELECT * FROM gone ORDER BY id") == [(1, "A", None), (2, "b", b""), (3, "c", b"\x00\xff")]
    assert await work.rows("SELECT id FROM t") == [(4,)]


async def test_an_archive_that_drops_rows_is_told_by_the_counts(work: SqliteWork) -> None:
    """A trigger of the archive may pass a row over without a word."""
    await work.execute("CREATE TRIGGER drop_two BEFORE INSERT ON gone WHEN new.id = 2 BEGIN SELECT RAISE(IGNORE); END")
    assert await move(work, 3) == (3, 2)


async def test_an_archive_that_has_a_row_already_refuses_it(work: SqliteWork) -> None:
    """Even where the archive says that it replaces rows."""
    await work.execute(
        "DROP TABLE gone",
        "CREATE TABLE gone (id INTEGER PRIMARY KEY ON CONFLICT REPLACE, a TEXT, b BLOB)",
        "INSERT INTO gone VALUES (2, 'before', NULL)",
    )
    with pytest.raises(exc.IntegrityError):
        await move(work, 3)
    assert await work.rows("SELECT count(*) FROM t") == [(4,)]


async def test_a_row_that_a_trigger_keeps_is_not_in_two_places(work: SqliteWork) -> None:
    """The run is told, and nothing of the chunk stays."""
    await work.execute(KEEPS_TWO)
    with pytest.raises(RequestError, match="kept 1 of 3 rows from being deleted without a word"):
        await move(work, 3)
    assert await work.rows("SELECT count(*) FROM gone") == [(0,)]


async def test_rows_are_taken_in_order(work: SqliteWork) -> None:
    """Sorted as the database sorts, whatever order they are deleted in."""
    assert await take(work, 3) == [("A", None), ("b", b""), ("c", b"\x00\xff")]
    assert await work.rows("SELECT id FROM t") == [(4,)]


async def test_a_row_that_a_trigger_keeps_is_not_taken(work: SqliteWork) -> None:
    """What stays in the table does not go elsewhere."""
    await work.execute(KEEPS_TWO)
    assert await take(work, 3) == [("A", None), ("c", b"\x00\xff")]


def test_advice() -> None:
    """Of the file's room, and of statistics."""
    assert "VACUUM" in advice(TABLE)
    assert "ANALYZE t" in advice(TABLE)
