"""How a worker connects to MariaDB and MySQL, and what each of its transactions begins with.

Owns the engine's options. Refuses to know what a transaction is for: execution options say it.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Final
from weakref import WeakSet

import aiomysql
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ManagesConnection

from worker.core.settings import Settings
from worker.database.mysql.driver import UNREACHABLE, WorkerConnection, driver_of

CONNECT_TIMEOUT_S: Final = 10

SILENCE_S: Final = 10
"""How long after the statement timeout, in seconds, a server that says nothing is given up."""

BEGINNING: Final = "heavylift_beginning"
"""The execution option that names the statements with which transactions of a connection begin."""

READ_ONLY: Final[Mapping[str, object]] = {BEGINNING: ("START TRANSACTION READ ONLY",)}
"""For a connection whose transactions only read. It costs no round trip: it goes with the first statement."""


def connection_options(settings: Settings, worker: str) -> dict[str, object]:
    """Driver options: the worker's name among the connection's attributes, and how long the server may be silent.

    The name is seen in performance_schema.session_connect_attrs, where that is on.
    """
    family: WeakSet[WorkerConnection] = WeakSet()
    patience_s = settings.statement_timeout_ms / 1000 + SILENCE_S
    return {
        "connect_args": {
            "async_creator_fn": partial(_open, patience_s=patience_s, family=family),
            "charset": "utf8mb4",
            "program_name": f"heavylift:{worker}"[:63],
        }
    }


def watch_engine(engine: AsyncEngine) -> None:
    """See that each transaction begins as its connection's execution options say, with limits of its own."""

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        beginning = connection.get_execution_options().get(BEGINNING, ())
        driver_of(connection.connection).prepare(*beginning)


def is_open(connection: ManagesConnection) -> bool:
    """Whether a pooled connection is open for all that aiomysql has heard."""
    return driver_of(connection).is_open


async def _open(*, patience_s: float, family: "WeakSet[WorkerConnection]", **options: object) -> WorkerConnection:
    connection = WorkerConnection(patience_s=patience_s, family=family, **options)
    try:
        # aiomysql's own timeout ends where the handshake begins
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await connection.open()
    except TimeoutError:
        connection.close()
        raise aiomysql.OperationalError(UNREACHABLE, f"No answer within {CONNECT_TIMEOUT_S} s") from None
    except BaseException:
        connection.close()
        raise
    return connection
