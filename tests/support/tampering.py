"""The books changed as whoever owns their tables can: with the guard and the constraints out of the way meanwhile."""

import sqlite3
from contextlib import closing

from sqlalchemy import NullPool, text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.support.own_session import backend_of, execute
from worker.database.engine import Database

BOOKS = ("heavylift_transfers", "heavylift_entries", "heavylift_refusals")


async def tamper(database: Database, *statements: str) -> None:
    """Run statements that no guard and no constraint sees; both stand as before when they are done."""
    backend = backend_of(database)
    if backend == "postgresql":
        await _tamper_on_postgres(database, *statements)
    elif backend == "sqlite":
        path = database.engine.url.database
        assert path is not None
        _tamper_with_file(path, *statements)
    else:
        await _tamper_on_mariadb(database, *statements)


async def _tamper_on_postgres(database: Database, *statements: str) -> None:
    off = [f"ALTER TABLE {table} DISABLE TRIGGER ALL" for table in BOOKS]
    rest = [f"ALTER TABLE {table} ENABLE TRIGGER ALL" for table in BOOKS]
    on = [f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_append_only" for table in BOOKS]
    last = "ALTER TABLE heavylift_entries ENABLE ALWAYS TRIGGER heavylift_entries_cancel_out"
    await execute(database, *off, *statements, *rest, *on, last)


def _tamper_with_file(path: str, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in (*statements, *(creation for _, creation in triggers)):
            connection.execute(statement)


async def _tamper_on_mariadb(database: Database, *statements: str) -> None:
    engine = create_async_engine(database.engine.url, poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.execute(text("SET foreign_key_checks = 0, check_constraint_checks = 0"))
        names = (await connection.execute(text("SHOW TRIGGERS"))).scalars().all()
        creations = [(await connection.execute(text(f"SHOW CREATE TRIGGER {name}"))).one()[2] for name in names]
        for name in names:
            await connection.execute(text(f"DROP TRIGGER {name}"))
        for statement in statements:
            await connection.execute(text(statement))
        for creation in creations:
            # a percent sign would be taken for a place for a value
            await connection.exec_driver_sql(creation.replace("%", "%%"))
    await engine.dispose()
