"""A server of one test's own, which it may restart, crash and cut off, and which keeps what was committed.

Owns how each database is hit. SQLite has no server: of it there is a folder of files, and nothing to hit.
"""

import os
import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sqlmodel import SQLModel

from tests.support import mariadb_databases, postgres_databases, sqlite_databases
from tests.support.chosen import Backend
from tests.support.sessions import end_sessions
from worker.embedded import PostgresProcess

LASTING_POSTGRES = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}
"""Settings of a server whose processes may crash, though not the machine that it runs on."""

LASTING_MARIADB = {"innodb-flush-log-at-trx-commit": "2", "innodb-doublewrite": "1"}
"""Likewise: what was committed is with the system, and a page that was half written is mended."""


class Breakable(Protocol):
    """What can be hit of a database."""

    def fresh(self) -> AbstractAsyncContextManager[str]:
        """The URL of a new clone of the template, dropped at the end."""
        ...

    def restart(self) -> None:
        """In good order, which rolls back what is under way."""
        ...

    def crash(self) -> None:
        """At once; when this returns, the server has recovered from its log."""
        ...

    async def end_sessions(self, url: str, rand: random.Random) -> int:
        """End about half of the sessions in a database; returns how many."""
        ...


@contextmanager
def start_breakable(backend: Backend, folder: Path, models: Sequence[type[SQLModel]]) -> Iterator[Breakable]:
    """Start a server and make its template; stopped at the end.

    Args:
        backend: which database it is.
        folder: for its files.
        models: whose tables are in the template beside the ledger.
    """
    if backend == "sqlite":
        yield Files(sqlite_databases.SqliteFolder.make(folder, models))
    elif backend == "mariadb":
        with mariadb_databases.start(folder, models, LASTING_MARIADB) as mariadb:
            yield MariaDb(mariadb)
    else:
        with PostgresProcess(folder, options=LASTING_POSTGRES) as process:
            postgres_databases.make_template(process.url, models)
            yield Postgres(process)


async def end_half(url: str, rand: random.Random) -> int:
    """End each session with the chance of a coin; returns how many."""
    return await end_sessions(url, lambda _: rand.random() < 1 / 2)


@dataclass(frozen=True, slots=True)
class Postgres:
    """A PostgreSQL."""

    process: PostgresProcess

    def fresh(self) -> AbstractAsyncContextManager[str]:
        """The URL of a new clone of the template."""
        return postgres_databases.fresh_database(self.process.url)

    def restart(self) -> None:
        """A fast shutdown, and a start."""
        self.process.restart()

    def crash(self) -> None:
        """An immediate shutdown, and a start."""
        os.kill(self.process.pid, signal.SIGQUIT)
        self.process.restart()

    async def end_sessions(self, url: str, rand: random.Random) -> int:
        """`pg_terminate_backend`."""
        return await end_half(url, rand)


@dataclass(frozen=True, slots=True)
class MariaDb:
    """A MariaDB."""

    server: mariadb_databases.MariaDbServer

    def fresh(self) -> AbstractAsyncContextManager[str]:
        """The URL of a new clone of the template."""
        return self.server.fresh()

    def restart(self) -> None:
        """SIGTERM, and a start."""
        self.server.process.restart()

    def crash(self) -> None:
        """SIGKILL, and a start."""
        self.server.process.kill()
        self.server.process.start()

    async def end_sessions(self, url: str, rand: random.Random) -> int:
        """`KILL CONNECTION`."""
        return await end_half(url, rand)


@dataclass(frozen=True, slots=True)
class Files:
    """A folder of SQLite's files."""

    folder: sqlite_databases.SqliteFolder

    def fresh(self) -> AbstractAsyncContextManager[str]:
        """The URL of a new copy of the template."""
        return self.folder.fresh()

    def restart(self) -> None:
        """There is no server."""
        raise NotImplementedError

    def crash(self) -> None:
        """There is no server."""
        raise NotImplementedError

    async def end_sessions(self, url: str, rand: random.Random) -> int:
        """There are no sessions."""
        raise NotImplementedError
