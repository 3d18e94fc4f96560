"""Migrations on MariaDB: what they make, one at a time, and one that was killed half-way goes on where it was."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from sqlalchemy import Connection, event, inspect, text
from sqlalchemy.exc import DBAPIError

from tests.support.mariadb import MariaDbProcess
from tests.support.mariadb_hand import driver_behind, hand_on, run_on
from worker.core.errors import SettingsError
from worker.core.settings import Settings
from worker.database import transfer_tables
from worker.database.engine import Database, open_database
from worker.database.ledger import Ledger
from worker.database.migrate import VERSION_TABLE, check_version, migrate, newest
from worker.database.mysql.driver import driver_of
from worker.database.tables import METADATA

_ = transfer_tables


@pytest.fixture
async def second(settings: Settings) -> AsyncIterator[Database]:
    """Another worker's engine on the same database."""
    opened = open_database(settings, "two")
    yield opened
    await opened.dispose()


async def structure(url: str) -> list[tuple[object, ...]]:
    """Everything that a database's ledger consists of."""
    async with hand_on(url) as hand:
        tables = [row[0] for row in await hand.ask("SHOW TABLES")]
        return [
            *[(await hand.ask(f"SHOW CREATE TABLE {table}"))[0] for table in sorted(tables)],
            *await hand.ask(
                "SELECT TRIGGER_NAME, ACTION_STATEMENT FROM information_schema.TRIGGERS "
                "WHERE TRIGGER_SCHEMA = DATABASE() ORDER BY TRIGGER_NAME"
            ),
        ]


async def test_the_migrated_schema_is_the_declared_one(database: Database) -> None:
    """Every table, column, key and index that the program works with is there, and no other."""
    assert await migrate(database) == (None, newest())

    def read(connection: Connection) -> dict[str, tuple[set[str], list[str], set[str], int]]:
        found = inspect(connection)
        return {
            name: (
                {column["name"] for column in found.get_columns(name)},
                list(found.get_pk_constraint(name)["constrained_columns"]),
                {str(index["name"]) for index in found.get_indexes(name)},
                len(found.get_foreign_keys(name)),
            )
            for name in found.get_table_names()
            if name != VERSION_TABLE
        }

    async with database.engine.connect() as connection:
        read_tables = await connection.run_sync(read)
    assert read_tables.keys() == {table.name for table in METADATA.sorted_tables}
    for table in METADATA.sorted_tables:
        columns, key, indexes, references = read_tables[table.name]
        assert columns == {column.name for column in table.columns}
        assert key == [column.name for column in table.primary_key]
        assert {str(index.name) for index in table.indexes} <= indexes
        assert references == len(table.foreign_key_constraints)


async def test_every_table_is_transactional_and_exact(database: Database, own_url: str) -> None:
    """InnoDB, in a collation that tells "a" from "a " and "A", though the database's own does not."""
    await migrate(database)
    async with hand_on(own_url) as hand:
        found = await hand.ask(
            "SELECT DISTINCT ENGINE, TABLE_COLLATION FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()"
        )
        columns = await hand.ask(
            "SELECT DISTINCT COLLATION_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() "
            "AND COLLATION_NAME IS NOT NULL"
        )
    assert found == [("InnoDB", "utf8mb4_nopad_bin")]
    assert columns == [("utf8mb4_nopad_bin",)]


async def test_both_names_of_the_database_work(settings: Settings, own_url: str) -> None:
    """`mariadb://`, `mysql://` and either with a driver mean the same."""
    for name in ("mariadb", "mysql", "mariadb+aiomysql", "mysql+pymysql"):
        _, _, rest = own_url.partition("://")
        named = open_database(settings.model_copy(update={"database_url": SecretStr(f"{name}://{rest}")}), name)
        try:
            await migrate(named)
            await check_version(named)
        finally:
            await named.dispose()


async def test_many_at_once_migrate_once(settings: Settings, own_url: str) -> None:
    """The others wait for the first, and find nothing left to do."""
    workers = [open_database(settings, f"worker {number}") for number in range(4)]
    try:
        found = await asyncio.gather(*(migrate(worker) for worker in workers))
    finally:
        for worker in workers:
            await worker.dispose()
    assert sorted(found, key=str) == [(newest(), newest())] * 3 + [(None, newest())]
    assert len(await structure(own_url)) > 0


async def test_the_lock_is_let_go(database: Database, second: Database) -> None:
    """Though the connection goes back to its pool, and after a failure, too."""
    await migrate(database)
    async with database.engine.connect() as connection:
        await database.dialect.lock_migrations(connection)
        await connection.rollback()
    async with database.engine.connect() as still_there:
        await still_there.execute(text("SELECT 1"))
        async with asyncio.timeout(4):
            await migrate(second)


async def test_a_migration_that_was_killed_between_two_statements_goes_on(
    own_mariadb: MariaDbProcess, settings: Settings, own_url: str, ledger: Ledger
) -> None:
    """Whatever it had done stays, nothing of it is done twice, and the ledger is in the end what it always is."""
    del ledger
    whole = await structure(own_url)
    half = own_url.rpartition("/")[0] + "/half"
    named = settings.model_copy(update={"database_url": SecretStr(half)})
    for statement in (0, 1, 2, 5, 8, 11, 14, 17, 20):
        await run_on(own_mariadb.url, "CREATE OR REPLACE DATABASE half CHARACTER SET utf8mb4")
        broken, mended = open_database(named, "broken"), open_database(named, "mended")
        try:
            with pytest.raises(DBAPIError):
                await _migrate_until(broken, statement)
            await migrate(mended)
            await check_version(mended)
            async with mended.reading() as connection:
                assert await mended.dialect.missing_guards(connection) == []
        finally:
            await broken.dispose()
            await mended.dispose()
        assert await structure(half) == whole
    await run_on(own_mariadb.url, "DROP DATABASE half")


async def _migrate_until(database: Database, statement: int) -> None:
    """Migrate, and lose the connection before the statement of a number, of those that change something."""
    seen = 0

    @event.listens_for(database.engine.sync_engine, "before_cursor_execute")
    def count(connection: Connection, _: object, sql: str, *__: object) -> None:
        nonlocal seen
        if not sql.lstrip().startswith(("CREATE", "ALTER", "INSERT", "UPDATE")):
            return
        if seen == statement:
            driver_of(connection.connection).close()
        seen += 1

    await migrate(database)


async def test_a_ledger_table_without_transactions_is_refused(database: Database, own_url: str) -> None:
    """By name, with the statement that mends it; and the check of the books says so, too."""
    await migrate(database)
    await run_on(own_url, "ALTER TABLE heavylift_moves ENGINE=Aria")
    said = "table heavylift_moves is kept by Aria, which has no transactions: ALTER TABLE heavylift_moves ENGINE=InnoDB"
    with pytest.raises(SettingsError, match=said):
        await migrate(database)
    async with database.reading() as connection:
        assert await database.dialect.missing_guards(connection) == [said]


async def test_the_connection_that_migrated_is_like_any_other(database: Database) -> None:
    """It skips nothing any more."""
    await migrate(database)
    async with database.engine.begin() as connection:
        await driver_behind(connection)
        with pytest.raises(DBAPIError):
            await connection.run_sync(METADATA.tables["heavylift_moves"].create, checkfirst=False)
