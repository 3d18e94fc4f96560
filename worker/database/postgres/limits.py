"""A transaction's own timeouts on PostgreSQL.

Owns the one statement that sets them. Refuses to choose them: the settings do.
"""

from typing import Final

from sqlalchemy import Connection, text

from worker.core.settings import Settings

_LIMITS: Final = text(
    "SELECT set_config('lock_timeout', :lock, true), set_config('statement_timeout', :statement, true), "
    "set_config('idle_in_transaction_session_timeout', :idle, true)"
)


def set_limits(connection: Connection, settings: Settings, *, idle_ms: int) -> None:
    """Set them: `set_config(..., true)` is SET LOCAL, it ends with the transaction, so pooled connections stay clean.

    Args:
        connection: in a transaction that has just begun.
        settings: how long a statement may take, and wait for a lock.
        idle_ms: how long the transaction may sit between two statements, in milliseconds.
    """
    connection.execute(
        _LIMITS,
        {
            "lock": f"{settings.lock_timeout_ms}ms",
            "statement": f"{settings.statement_timeout_ms}ms",
            "idle": f"{idle_ms}ms",
        },
    )
