"""Every kind of error, really induced on SQLite, told by its code."""

import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from tests.support.sqlite_files import sqlite_database
from worker.core.errors import ErrorKind
from worker.database.classify import classify, describe
from worker.database.engine import Database
from worker.database.sqlite.errors import code_of, kind_of_code

TABLES = (
    "CREATE TABLE team (id INTEGER PRIMARY KEY)",
    (
        "CREATE TABLE hero (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, age INTEGER CHECK (age < 1000), "
        "team INTEGER REFERENCES team (id), later INTEGER REFERENCES team (id) DEFERRABLE INITIALLY DEFERRED)"
    ),
    "CREATE TABLE strict_hero (id INTEGER PRIMARY KEY, age INTEGER) STRICT",
    "CREATE TRIGGER no_zed BEFORE INSERT ON hero WHEN NEW.name = 'Zed' BEGIN SELECT RAISE(ABORT, 'not Zed'); END",
    "INSERT INTO hero (id, name) VALUES (1, 'Ada')",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file."""
    return tmp_path / "app.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    """A file with tables that refuse things."""
    async with sqlite_database(path, lock_timeout_ms=100, statement_timeout_ms=1_000) as database:
        async with database.engine.begin() as connection:
            for statement in TABLES:
                await connection.execute(text(statement))
        yield database


async def error_of(database: Database, statement: str, **values: object) -> BaseException:
    """What a statement raises in a transaction of its own that is committed."""
    with pytest.raises((SQLAlchemyError, sqlite3.Error)) as caught:
        async with database.engine.begin() as connection:
            await connection.execute(text(statement), values)
    return caught.value


def kind(database: Database, error: BaseException) -> ErrorKind:
    """The error's kind."""
    return classify(error, database.dialect.errors)


REFUSED = {
    "unique": ("INSERT INTO hero (name) VALUES ('Ada')", "2067"),
    "primary key": ("INSERT INTO hero (id, name) VALUES (1, 'Bob')", "1555"),
    "not null": ("INSERT INTO hero (name) VALUES (NULL)", "1299"),
    "check": ("INSERT INTO hero (name, age) VALUES ('Bob', 2000)", "275"),
    "foreign key": ("INSERT INTO hero (name, team) VALUES ('Bob', 9)", "787"),
    "deferred foreign key": ("INSERT INTO hero (name, later) VALUES ('Bob', 9)", "787"),
    "trigger": ("INSERT INTO hero (name) VALUES ('Zed')", "1811"),
    "type": ("INSERT INTO hero (id, name) VALUES ('x', 'Bob')", "20"),
    "strict type": ("INSERT INTO strict_hero (age) VALUES ('x')", "3091"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refused_row_is_told_by_its_code(database: Database, name: str) -> None:
    """What a constraint refuses is the row's fault, and the record says which constraint's kind it was."""
    statement, code = REFUSED[name]
    error = await error_of(database, statement)
    assert kind(database, error) is ErrorKind.REFUSED_ROW
    assert describe(error, database.dialect.errors.code_of).sqlstate == code


@pytest.mark.parametrize("value", [2**63, "\ud800"], ids=["an integer of 65 bits", "half a character"])
async def test_a_value_that_cannot_be_sent_is_the_rows_fault(database: Database, value: object) -> None:
    """What the driver itself refuses comes as an error of the database's, as it does from every driver."""
    error = await error_of(database, "INSERT INTO hero (name) VALUES (:value)", value=value)
    assert isinstance(error, DBAPIError)
    assert kind(database, error) is ErrorKind.REFUSED_ROW


@pytest.mark.parametrize("statement", ["SELECT * FROM nowhere", "SELEKT 1"])
async def test_what_fails_every_time_is_permanent(database: Database, statement: str) -> None:
    """A statement that SQLite cannot run is not tried again."""
    assert kind(database, await error_of(database, statement)) is ErrorKind.PERMANENT


async def test_too_many_variables_are_permanent(database: Database, path: Path) -> None:
    """However many this SQLite takes: the same statement never gets fewer."""
    with sqlite3.connect(path) as other:
        most = other.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
    other.close()
    async with database.reading() as connection:
        with pytest.raises(DBAPIError) as caught:
            await connection.exec_driver_sql(f"SELECT {'?, ' * most}?", (1,) * (most + 1))
    assert kind(database, caught.value) is ErrorKind.PERMANENT


async def test_another_process_that_writes_is_contention(database: Database, path: Path) -> None:
    """The lock that another connection holds is waited for, and then it is BUSY."""
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        error = await error_of(database, "INSERT INTO hero (name) VALUES ('Bob')")
        assert (kind(database, error), describe(error, code_of).sqlstate) == (ErrorKind.CONTENTION, "5")
        other.execute("ROLLBACK")
    other.close()


async def test_a_snapshot_that_is_no_longer_the_newest_is_contention(path: Path, database: Database) -> None:
    """A transaction that reads and then writes, as other programs have them, gets 517 and must begin anew."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM hero").fetchall()
    async with database.engine.begin() as connection:
        await connection.execute(text("INSERT INTO hero (name) VALUES ('Bob')"))
    with pytest.raises(sqlite3.OperationalError) as caught:
        other.execute("INSERT INTO hero (name) VALUES ('Eve')")
    other.close()
    assert (kind(database, caught.value), code_of(caught.value)) == (ErrorKind.CONTENTION, "517")


async def test_a_table_in_use_by_the_same_connection_is_contention(path: Path, database: Database) -> None:
    """LOCKED: a statement of the connection's own is in the way."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("INSERT INTO team VALUES (1), (2)")
    reading = other.execute("SELECT * FROM team")
    reading.fetchone()
    with pytest.raises(sqlite3.OperationalError) as caught:
        other.execute("DROP TABLE strict_hero")
    reading.close()
    other.close()
    assert (kind(database, caught.value), code_of(caught.value)) == (ErrorKind.CONTENTION, "6")


async def test_a_full_disk_is_for_a_person_to_free(database: Database) -> None:
    """FULL, as a file at its largest says it."""
    async with database.engine.connect() as connection:
        await connection.exec_driver_sql("PRAGMA max_page_count = 20")
        with pytest.raises(DBAPIError) as caught:
            await connection.execute(text("INSERT INTO hero (name) VALUES (:name)"), {"name": "x" * 1_000_000})
    assert kind(database, caught.value) is ErrorKind.EXHAUSTED


async def test_a_file_that_may_not_be_written_to_is_for_a_person_to_allow(database: Database, path: Path) -> None:
    """READONLY."""
    other = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError) as caught:
        other.execute("INSERT INTO hero (name) VALUES ('Bob')")
    other.close()
    assert kind(database, caught.value) is ErrorKind.EXHAUSTED


async def test_a_file_that_cannot_be_opened_is_unreachable(tmp_path: Path) -> None:
    """CANTOPEN: its directory is not there."""
    async with sqlite_database(tmp_path / "nowhere" / "app.db") as database:
        with pytest.raises(DBAPIError) as caught:
            async with database.reading() as connection:
                await connection.execute(text("SELECT 1"))
        assert kind(database, caught.value) is ErrorKind.CONNECTION


async def test_what_is_no_database_is_permanent(tmp_path: Path) -> None:
    """NOTADB: a file of something else is not written to."""
    (tmp_path / "app.db").write_bytes(b"no database" * 100)
    async with sqlite_database(tmp_path / "app.db") as database:
        with pytest.raises(DBAPIError) as caught:
            async with database.reading() as connection:
                await connection.execute(text("SELECT 1"))
        assert kind(database, caught.value) is ErrorKind.PERMANENT


async def test_damage_is_permanent(database: Database, path: Path) -> None:
    """CORRUPT: it is not read over."""
    async with database.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO team WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
                "LIMIT 20000) SELECT i FROM n"
            )
        )
    await database.dispose()
    content = path.read_bytes()
    path.write_bytes(content[:8192] + os.urandom(len(content) - 8192))
    async with sqlite_database(path) as damaged:
        with pytest.raises(DBAPIError) as caught:
            async with damaged.reading() as connection:
                await connection.execute(text("SELECT count(*), sum(id) FROM team"))
        assert kind(damaged, caught.value) is ErrorKind.PERMANENT


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_NOMEM, ErrorKind.OVERLOAD),
        (sqlite3.SQLITE_IOERR_FSYNC, ErrorKind.EXHAUSTED),
        (sqlite3.SQLITE_IOERR_NOMEM, ErrorKind.OVERLOAD),
        (sqlite3.SQLITE_READONLY_DBMOVED, ErrorKind.CONNECTION),
        (sqlite3.SQLITE_BUSY_RECOVERY, ErrorKind.CONTENTION),
        (sqlite3.SQLITE_PROTOCOL, ErrorKind.CONTENTION),
        (sqlite3.SQLITE_TOOBIG, ErrorKind.OVERLOAD),
        (sqlite3.SQLITE_CORRUPT_INDEX, ErrorKind.PERMANENT),
    ],
)
def test_codes_that_no_test_can_bring_about(code: int, expected: ErrorKind) -> None:
    """An extended code is its own kind, or that of the code which it belongs to."""
    assert kind_of_code(str(code)) is expected
