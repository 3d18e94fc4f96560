"""Databases of the tests' own in SQLite: a migrated file, and for each test a copy of it."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from uuid import uuid4

from sqlalchemy import URL, make_url
from sqlmodel import SQLModel

from tests.support.chosen import Backend
from tests.support.templates import fill_template

BESIDE = ("", "-wal", "-shm", "-journal")
"""The names of the files that are one database, after its own."""


@dataclass(frozen=True, slots=True)
class SqliteFolder:
    """A folder of files, one of them the template.

    Attributes:
        folder: where they are.
        backend: which database it is.
    """

    folder: Path
    backend: Backend = "sqlite"

    @classmethod
    def make(cls, folder: Path, models: Sequence[type[SQLModel]]) -> Self:
        """Make the folder and its template.

        Args:
            folder: it is made.
            models: whose tables are in the template beside the ledger.
        """
        folder.mkdir(parents=True)
        made = cls(folder)
        asyncio.run(fill_template(file_url(made.template), models))
        return made

    @property
    def template(self) -> Path:
        """The migrated file."""
        return self.folder / "template.db"

    def fresh(self) -> AbstractAsyncContextManager[str]:
        """The URL of a new copy of the template, deleted at the end."""
        return copy_of(file_url(self.template))

    @asynccontextmanager
    async def empty(self) -> AsyncIterator[str]:
        """The URL of a file that does not exist yet, deleted at the end."""
        path = _new_name(self.folder)
        yield file_url(path)
        _delete(path)


def file_url(path: Path) -> str:
    """SQLAlchemy's URL of a database file."""
    return URL.create("sqlite+aiosqlite", database=str(path)).render_as_string()


@asynccontextmanager
async def copy_of(url: str) -> AsyncIterator[str]:
    """The URL of a new copy of a file that nobody has open, deleted at the end."""
    database = make_url(url).database
    assert database is not None
    path = Path(database)
    _write_back(path)
    copy = _new_name(path.parent)
    shutil.copyfile(path, copy)
    try:
        yield file_url(copy)
    finally:
        _delete(copy)


def _write_back(path: Path) -> None:
    """See that the file itself is the whole database: a process that was killed leaves the rest in its log."""
    with closing(sqlite3.connect(path)) as connection:
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert not busy, f"{path} cannot be copied: somebody has it open"


def _new_name(folder: Path) -> Path:
    return folder / f"test_{uuid4().hex[:12]}.db"


def _delete(path: Path) -> None:
    for ending in BESIDE:
        path.with_name(f"{path.name}{ending}").unlink(missing_ok=True)
