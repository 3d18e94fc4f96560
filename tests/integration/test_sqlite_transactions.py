"""Transactions on SQLite: who waits for whom, what survives an error, and what a cancelled task leaves behind."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError

from tests.support.sqlite_files import sqlite_database, sqlite_settings
from worker.core.errors import ErrorKind, SettingsError
from worker.database.classify import classify
from worker.database.engine import Database, open_database
from worker.database.session import open_session

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
FILL = "INSERT INTO item (name) SELECT value FROM json_each(:names)"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A file with one table."""
    async with sqlite_database(tmp_path / "app.db", lock_timeout_ms=300, statement_timeout_ms=400) as database:
        async with database.engine.begin() as connection:
            await connection.execute(text("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT UNIQUE)"))
        yield database


@pytest.fixture
def names(database: Database) -> Callable[[], Awaitable[list[str]]]:
    """What is committed, as another transaction sees it."""

    async def read() -> list[str]:
        async with database.reading() as connection:
            return list((await connection.execute(text("SELECT name FROM item ORDER BY id"))).scalars())

    return read


Names = Callable[[], Awaitable[list[str]]]


async def add(database: Database, name: str) -> None:
    """Insert one row in a transaction of its own."""
    async with database.engine.begin() as connection:
        await connection.execute(text("INSERT INTO item (name) VALUES (:name)"), {"name": name})


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///file::memory:?cache=shared&uri=true"]
)
def test_a_database_that_is_no_file_is_refused(url: str, tmp_path: Path) -> None:
    """What each connection would have for itself is refused, with an example of a file."""
    settings = sqlite_settings(tmp_path / "app.db").model_copy(update={"database_url": None})
    settings = type(settings).model_validate({"database_url": url})
    with pytest.raises(SettingsError, match=r"for example DATABASE_URL=sqlite:///app\.db"):
        open_database(settings, "test")


async def test_a_connection_keeps_what_was_promised(database: Database) -> None:
    """Commits reach the disk, foreign keys count, and the file has a write-ahead log."""
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "query_only": 1}
    async with database.reading() as connection:
        found = {name: (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one() for name in wanted}
    assert found == wanted


async def test_readers_do_not_wait_for_a_writer(database: Database, names: Names) -> None:
    """Whoever only reads sees what is committed, while a transaction that writes is open."""
    await add(database, "old")
    async with database.engine.begin() as connection:
        await connection.execute(text("INSERT INTO item (name) VALUES ('new')"))
        assert await names() == ["old"]
        await database.check()
    assert await names() == ["old", "new"]


async def test_a_reader_sees_one_moment(database: Database) -> None:
    """What is committed after a reading transaction's first question is not in it."""
    async with database.reading() as connection:
        before = (await connection.execute(text("SELECT count(*) FROM item"))).scalar_one()
        await add(database, "new")
        assert (await connection.execute(text("SELECT count(*) FROM item"))).scalar_one() == before == 0


async def test_a_reader_cannot_write(database: Database, names: Names) -> None:
    """A connection that said it only reads is refused a write, and the next user of it is not."""
    async with database.reading() as connection:
        with pytest.raises(OperationalError, match="readonly"):
            await connection.execute(text("INSERT INTO item (name) VALUES ('new')"))
    await add(database, "after")
    assert await names() == ["after"]


@pytest.mark.usefixtures("database")
async def test_writers_come_one_after_the_other(names: Names, tmp_path: Path) -> None:
    """Those of one process wait for each other, longer than SQLite's own luck would have it, and none is lost."""
    async with sqlite_database(tmp_path / "app.db", lock_timeout_ms=10_000) as patient:
        # each has its connection by then, so that all of them ask in this order
        async with patient.engine.begin():
            writers = []
            for number in range(15):
                writers.append(asyncio.create_task(add(patient, f"{number}")))
                while patient.engine.sync_engine.pool.checkedout() < number + 2:  # type: ignore[attr-defined]  # a queue's pool has it
                    await asyncio.sleep(0.001)
        await asyncio.gather(*writers)
    assert sorted(map(int, await names())) == list(range(15))


async def test_a_writer_that_waits_too_long_is_told(database: Database) -> None:
    """The lock timeout holds within a process, too, and calls for another try."""
    async with database.engine.begin():
        with pytest.raises(OperationalError) as caught:
            await add(database, "late")
    assert classify(caught.value, database.dialect.errors) is ErrorKind.CONTENTION
    await add(database, "later")


async def test_a_savepoint_undoes_its_part_only(database: Database, names: Names) -> None:
    """What came before a savepoint stays when it is rolled back."""
    async with database.engine.begin() as connection:
        await connection.execute(text("INSERT INTO item (name) VALUES ('a')"))
        for name in ("b", "a", "c"):
            try:
                async with connection.begin_nested():
                    await connection.execute(text("INSERT INTO item (name) VALUES (:name)"), {"name": name})
            except DBAPIError as error:
                assert classify(error, database.dialect.errors) is ErrorKind.REFUSED_ROW  # noqa: PT017 - the error is looked at where it is met
    assert await names() == ["a", "b", "c"]


async def test_a_lost_transaction_is_never_committed_in_part(database: Database, names: Names) -> None:
    """Where SQLite rolled everything back by itself, what comes next is refused, and so is the commit."""
    async with database.engine.connect() as connection:
        await connection.exec_driver_sql("PRAGMA max_page_count = 20")
        await connection.execute(text("INSERT INTO item (name) VALUES ('before')"))
        with pytest.raises(OperationalError) as full:
            await connection.execute(text("INSERT INTO item (name) VALUES (:name)"), {"name": "x" * 1_000_000})
        with pytest.raises(OperationalError) as after:
            await connection.execute(text("INSERT INTO item (name) VALUES ('after')"))
        with pytest.raises(OperationalError) as ending:
            await connection.commit()
    kinds = {classify(caught.value, database.dialect.errors) for caught in (full, after, ending)}
    assert kinds == {ErrorKind.EXHAUSTED}
    assert await names() == []


async def test_a_slow_statement_is_stopped(database: Database) -> None:
    """The statement timeout ends a statement that would go on for ever, and calls for less of it."""
    settings = sqlite_settings(Path("unused"), lock_timeout_ms=100, statement_timeout_ms=100)
    async with open_session(database, settings) as session:
        with pytest.raises(OperationalError) as caught:
            await session.rows(text(ENDLESS).columns())  # type: ignore[arg-type]  # text has no types of its rows
    assert classify(caught.value, database.dialect.errors) is ErrorKind.OVERLOAD


async def test_limits_are_their_transactions_own(database: Database) -> None:
    """A transaction that set no timeout has none, whatever the connection's last one had."""
    settings = sqlite_settings(Path("unused"), lock_timeout_ms=1, statement_timeout_ms=1)
    async with open_session(database, settings) as session:
        await session.connection()
    async with database.engine.begin() as connection:
        slow = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 300000) SELECT max(i) FROM n")
        assert (await connection.execute(slow)).scalar_one() == 300_000


async def cancelled_while(task: "asyncio.Task[None]", ready: asyncio.Event) -> None:
    """Cancel a task once it is in the middle of a statement."""
    await ready.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_task_cancelled_in_a_statement_leaves_nothing(database: Database, names: Names) -> None:
    """The statement is stopped, its transaction rolled back, and the next writer need not wait for it."""
    running = asyncio.Event()

    async def write() -> None:
        async with database.engine.begin() as connection:
            await connection.execute(text("INSERT INTO item (name) VALUES ('half')"))
            asyncio.get_running_loop().call_later(0.05, running.set)
            await connection.execute(text(f"INSERT INTO item (name) {ENDLESS}"))

    await cancelled_while(asyncio.create_task(write()), running)
    await add(database, "next")
    assert await names() == ["next"]


async def test_a_task_cancelled_while_it_waits_for_the_file_leaves_nothing(
    database: Database, names: Names, tmp_path: Path
) -> None:
    """A task that waits for another process's lock can be cancelled; what it meant to write is not written."""
    other = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.Event()
    task = asyncio.create_task(add(database, "never"))
    asyncio.get_running_loop().call_later(0.05, waiting.set)
    await cancelled_while(task, waiting)
    other.execute("COMMIT")
    other.close()
    await add(database, "next")
    assert await names() == ["next"]


async def test_a_task_cancelled_while_it_waits_for_its_turn_leaves_nothing(database: Database, names: Names) -> None:
    """Within a process, too; and those behind it in the queue still get their turn."""
    async with database.engine.begin() as connection:
        await connection.execute(text("INSERT INTO item (name) VALUES ('first')"))
        tasks = [asyncio.create_task(add(database, name)) for name in ("never", "next")]
        await asyncio.sleep(0)
        waiting = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, waiting.set)
        await cancelled_while(tasks[0], waiting)
    await tasks[1]
    assert await names() == ["first", "next"]


async def test_tasks_cancelled_at_any_moment_commit_all_or_nothing(database: Database, names: Names) -> None:
    """Wherever the cancellation strikes, a transaction's two rows are both there, or neither is."""

    async def write(number: int) -> None:
        async with database.engine.begin() as connection:
            await connection.execute(text("INSERT INTO item (name) VALUES (:name)"), {"name": f"{number}a"})
            await connection.execute(text("INSERT INTO item (name) VALUES (:name)"), {"name": f"{number}b"})

    for number in range(60):
        task = asyncio.create_task(write(number))
        await asyncio.sleep(number * 0.0001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    found = await names()
    assert sorted(name[:-1] for name in found if name.endswith("a")) == sorted(
        name[:-1] for name in found if name.endswith("b")
    )
    await add(database, "next")
