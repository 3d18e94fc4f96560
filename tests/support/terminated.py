"""Sessions that a server ends from its side, while their worker is in the middle of something.

Owns how. SQLite has no server, and nobody who could end a connection.
"""

import asyncio
from collections.abc import Mapping
from typing import Final, Literal

from sqlalchemy import text

from tests.support.chosen import Backend
from tests.support.own_session import backend_of, rows_of, value_of
from worker import JobContext
from worker.database.engine import Database

Victim = Literal["session", "stream"]
"""The connection that a run writes on, or the other one that it reads from."""

_OWN: Final[Mapping[Backend, str]] = {"postgresql": "SELECT pg_backend_pid()", "mariadb": "SELECT connection_id()"}

_IN_A_TRANSACTION: Final[Mapping[Backend, str]] = {
    "postgresql": (
        "SELECT pid FROM pg_stat_activity WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid() "
        "AND datname = current_database() AND application_name = 'heavylift:one'"
    ),
    "mariadb": (
        "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx "
        "JOIN information_schema.processlist ON id = trx_mysql_thread_id WHERE db = database()"
    ),
}


async def terminate(database: Database, ctx: JobContext, victim: Victim) -> None:
    """End one or the other of a run's two connections."""
    backend = backend_of(database)
    own = int(str((await ctx.tools.execute(text(_OWN[backend]))).scalar_one()))
    await _end(database, backend, own if victim == "session" else await _other(database, backend, own))


async def _other(database: Database, backend: Backend, own: int) -> int:
    """The connection that a run reads from."""
    while True:
        others = {int(row[0]) for row in await rows_of(database, _IN_A_TRANSACTION[backend])} - {own}
        if others:
            (other,) = others
            return other
        # what MariaDB shows is read anew only if nobody has looked for a tenth of a second
        await asyncio.sleep(0.12)


async def _end(database: Database, backend: Backend, session: int) -> None:
    if backend == "postgresql":
        assert await value_of(database, f"SELECT pg_terminate_backend({session}, 10000)")
        return
    async with database.engine.connect() as connection:
        await connection.exec_driver_sql(f"KILL {session}")
    while await rows_of(database, f"SELECT 1 FROM information_schema.processlist WHERE id = {session}"):
        await asyncio.sleep(0.01)
