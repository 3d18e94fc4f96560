"""Databases in SQLite files of the tests' own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import SecretStr

from worker.core.settings import Settings
from worker.database.engine import Database, open_database


def sqlite_settings(path: Path, **settings: object) -> Settings:
    """Settings whose database is a file."""
    return Settings.model_validate({"database_url": SecretStr(f"sqlite:///{path}"), **settings})


@asynccontextmanager
async def sqlite_database(path: Path, **settings: object) -> AsyncIterator[Database]:
    """A database in a file, which need not exist yet."""
    database = open_database(sqlite_settings(path, **settings), "test")
    try:
        yield database
    finally:
        await database.dispose()
