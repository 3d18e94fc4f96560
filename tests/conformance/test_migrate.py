"""The ledger's schema: made once, by whoever comes first, and exactly what the code believes it to be."""

import asyncio

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import Connection, text

from tests.support.databases import DatabaseServer
from worker.core.errors import LedgerVersionError
from worker.core.settings import Settings
from worker.database.engine import Database, open_database
from worker.database.migrate import check_version, migrate, newest
from worker.database.tables import METADATA, MOVES
from worker.database.transfer_tables import BOOKS


async def test_the_migrated_schema_is_the_declared_one(database: Database) -> None:
    """Alembic finds no difference between the ledger's tables and their declaration."""

    def differences(connection: Connection) -> object:
        options = {
            "version_table": "heavylift_version",
            "include_name": lambda name, kind, _: kind != "table" or str(name).startswith("heavylift_"),
            "compare_server_default": False,
        }
        return compare_metadata(MigrationContext.configure(connection, opts=options), METADATA)

    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    assert {table for table in METADATA.tables if table.startswith("heavylift_")} >= {
        *(table.name for table in BOOKS),
        MOVES.name,
    }


@pytest.mark.only_on("postgresql", why="only PostgreSQL keeps the versions of a row on the pages of its table")
async def test_the_hot_table_has_room_on_its_pages(database: Database) -> None:
    """The progress table is narrow in its indexes, and wide in its free space."""
    async with database.engine.connect() as connection:
        found = await connection.execute(
            text(
                "SELECT reloptions, (SELECT count(*) FROM pg_index WHERE indrelid = c.oid) FROM pg_class AS c "
                "WHERE relname = 'heavylift_progress'"
            )
        )
        assert tuple(found.one()) == (["fillfactor=30"], 1)


async def test_many_at_once_migrate_once(server: DatabaseServer) -> None:
    """Several commands at the same moment on an empty database all end well, with one ledger."""
    async with server.empty() as url:
        database = open_database(Settings(database_url=SecretStr(url)), "test")
        with pytest.raises(LedgerVersionError, match="heavylift migrate"):
            await check_version(database)
        results = await asyncio.gather(*(migrate(database) for _ in range(4)))
        await check_version(database)
        await database.dispose()
    assert sorted(results, key=str) == [(newest(), newest())] * 3 + [(None, newest())]


async def test_a_newer_ledger_is_refused(database: Database) -> None:
    """A ledger that a newer program made is left alone, with advice."""
    async with database.engine.begin() as connection:
        await connection.execute(text("UPDATE heavylift_version SET version_num = '9999'"))
    with pytest.raises(LedgerVersionError, match="9999"):
        await check_version(database)
    with pytest.raises(LedgerVersionError, match="upgrade"):
        await migrate(database)
