"""A transaction's own timeouts on PostgreSQL, sent in the message that begins it.

Owns how they travel: asking for them by a statement of its own would cost each transaction a round trip. Refuses to
choose them: the settings do.
"""

from typing import Protocol

import asyncpg
from sqlalchemy import Connection
from sqlalchemy.pool import ManagesConnection

from worker.core.settings import Settings


class Transaction(Protocol):
    """What SQLAlchemy asks of a transaction of the driver."""

    async def start(self) -> None:
        """BEGIN."""
        ...

    async def commit(self) -> None:
        """COMMIT."""
        ...

    async def rollback(self) -> None:
        """ROLLBACK."""
        ...


class LimitedConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection of the driver that can be told under which limits its next transaction begins.

    Attributes:
        limits: SET LOCAL statements for that transaction; empty for none.
    """

    limits = ""

    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False
    ) -> Transaction:
        """The driver's own, or one that begins under the limits it was told."""
        limits, self.limits = self.limits, ""
        if not limits:
            own: Transaction = super().transaction(isolation=isolation, readonly=readonly, deferrable=deferrable)
            return own
        level = "" if isolation is None else f" ISOLATION LEVEL {isolation.replace('_', ' ')}"
        modes = " READ ONLY" * readonly + " DEFERRABLE" * deferrable
        return LimitedTransaction(self, f"BEGIN{level}{modes};{limits}")


class LimitedTransaction:
    """A transaction that begins under limits.

    Args:
        connection: the driver's.
        begin: BEGIN and what follows it in the same message.
    """

    def __init__(self, connection: LimitedConnection, begin: str) -> None:
        self._connection = connection
        self._begin = begin

    async def start(self) -> None:
        """BEGIN, and its limits."""
        await self._connection.execute(self._begin)

    async def commit(self) -> None:
        """COMMIT."""
        await self._connection.execute("COMMIT;")

    async def rollback(self) -> None:
        """ROLLBACK."""
        await self._connection.execute("ROLLBACK;")


def driver_of(connection: ManagesConnection) -> LimitedConnection:
    """The driver's connection behind SQLAlchemy's."""
    driver: LimitedConnection = connection.driver_connection  # type: ignore[assignment]  # there is one while it is open
    return driver


def set_limits(connection: Connection, settings: Settings, *, idle_ms: int, durable: bool = True) -> None:
    """Set the limits of the transaction that comes: SET LOCAL ends with it, so pooled connections stay clean.

    Args:
        connection: in a transaction that has sent nothing yet.
        settings: how long a statement may take, and wait for a lock.
        idle_ms: how long the transaction may sit between two statements, in milliseconds.
        durable: whether COMMIT waits for the log to be on disk.
    """
    # numbers, which the settings have checked: SET takes no parameters
    driver_of(connection.connection).limits = (
        f"SET LOCAL lock_timeout={settings.lock_timeout_ms:d};"
        f"SET LOCAL statement_timeout={settings.statement_timeout_ms:d};"
        f"SET LOCAL idle_in_transaction_session_timeout={idle_ms:d};"
        + ("" if durable else "SET LOCAL synchronous_commit=off;")
    )
