"""A transaction's own timeouts, as session variables that go with its first statement.

Owns which variables they are. Session variables outlast a transaction: those that the next one does not ask for are
given back the server's own values by it (see `driver.WorkerConnection`). Refuses to choose them: the settings do.
"""

from collections.abc import Mapping

from sqlalchemy import Connection
from sqlalchemy.pool import ManagesConnection

from worker.core.settings import Settings
from worker.database.mysql.driver import WorkerConnection, driver_of


def set_limits(connection: Connection, settings: Settings, *, idle_ms: int, durable: bool = True) -> None:
    """Set the limits of the transaction that comes.

    Locks are waited for in whole seconds, and so for at least one. MySQL's own limit is for SELECT alone: whatever
    else takes too long there is ended by the client, which hangs up some seconds later.

    Args:
        connection: in a transaction that has sent nothing yet.
        settings: how long a statement may take, and wait for a lock.
        idle_ms: how long the transaction may sit between two statements, in milliseconds.
        durable: of no account: whether COMMIT waits for the disk is a setting of the whole server.
    """
    del durable
    driver = driver_of(connection.connection)
    if driver.is_mariadb:
        statement = {"max_statement_time": f"{settings.statement_timeout_ms / 1000:.3f}"}
    else:
        statement = {"max_execution_time": f"{settings.statement_timeout_ms:d}"}
    driver.wanted = {**lock_limits(settings), **statement}
    limit_idleness(driver, idle_ms)


def limit_idleness(driver: WorkerConnection, idle_ms: int) -> None:
    """Have the server end the transaction that comes, with its connection, where it sits between two statements."""
    if driver.is_mariadb:
        driver.wanted = {**driver.wanted, "idle_transaction_timeout": seconds(idle_ms)}
    else:
        # MySQL's own knows no transactions: between them it must not count
        driver.brief = {"wait_timeout": seconds(idle_ms)}


def lock_limits(settings: Settings) -> Mapping[str, str]:
    """How long to wait for a row, and for a table that is being altered."""
    wait = seconds(settings.lock_timeout_ms)
    return {"innodb_lock_wait_timeout": wait, "lock_wait_timeout": wait}


def forget_limits(connection: ManagesConnection) -> None:
    """Take back the limits of a transaction that ended before it sent anything."""
    driver_of(connection).prepare()


def seconds(milliseconds: float) -> str:
    """Whole seconds, as SQL: at least one, and no less than was asked for."""
    return str(max(1, -(-int(milliseconds) // 1000)))
