"""A session that waits for no lock: what it is refused at once, another one holds."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import NullPool
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from tests.support.chosen import Backend
from tests.support.own_session import Statement, written
from worker.core.errors import ErrorKind
from worker.database.classify import classify
from worker.database.engine import Database

_ARGUMENTS: Final[Mapping[Backend, Mapping[str, Any]]] = {
    "postgresql": {"server_settings": {"lock_timeout": "50ms"}},
    "sqlite": {"timeout": 0.05},
    "mariadb": {"init_command": "SET innodb_lock_wait_timeout = 0"},
}


async def is_let(database: Database, backend: Backend, statement: Statement) -> bool:
    """Run a statement and commit, unless a lock is in its way; whether it was done."""
    engine = create_async_engine(database.engine.url, poolclass=NullPool, connect_args=dict(_ARGUMENTS[backend]))
    try:
        async with engine.begin() as connection:
            await connection.execute(written(statement))
    except DBAPIError as error:
        if classify(error, database.dialect.errors) is not ErrorKind.CONTENTION:
            raise
        return False
    finally:
        await engine.dispose()
    return True
