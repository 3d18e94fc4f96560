"""The guard of the books on MariaDB and MySQL: triggers for each row, and the check that they still stand.

Owns the triggers' text. They stop mistakes and careless hands. They do not stop TRUNCATE, which fires none (that of
the headers is refused, as others refer to them), nor whoever may drop a trigger, nor changes that a foreign key makes;
and a transfer whose second entry never comes is not seen by any. The verifier finds all of these.
"""

from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import DDLCompiler

from worker.database.books_guard import GuardBooks, UnguardBooks
from worker.database.guards import NEXT
from worker.database.mysql.migration_lock import foreign_engines
from worker.database.mysql.triggers import Trigger, refuse_edits

_CANCEL_OUT: Final = (
    # the second of two entries sees the first, whichever statement made it
    "IF NEW.idempotency_key IS NOT NULL AND EXISTS (SELECT 1 FROM heavylift_entries"
    " WHERE idempotency_key = NEW.idempotency_key HAVING COUNT(*) > 2 OR (COUNT(*) = 2 AND SUM(amount) <> 0))"
    " THEN SIGNAL SQLSTATE '23000' SET"
    " MESSAGE_TEXT = 'The entries of a transfer do not cancel out: it has two, which sum to zero'; END IF"
)

_TRIGGERS: Final = (
    *(
        trigger
        for table in ("heavylift_transfers", "heavylift_entries", "heavylift_refusals")
        for trigger in refuse_edits(table, f"{table} is only ever added to; to correct a transfer, make another one")
    ),
    Trigger("heavylift_entries", "heavylift_entries_cancel_out", "AFTER", "INSERT", _CANCEL_OUT),
)

_FOUND: Final = text(
    """
    SELECT TRIGGER_NAME AS name, EVENT_OBJECT_TABLE AS `table`, ACTION_TIMING AS timing, EVENT_MANIPULATION AS event,
           ACTION_STATEMENT AS body
    FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()
    """
)


@compiles(GuardBooks, "mysql")
def _guard(element: GuardBooks, compiler: DDLCompiler, **_: object) -> str:
    del element, compiler
    return NEXT.join(trigger.creation for trigger in _TRIGGERS)


@compiles(UnguardBooks, "mysql")
def _unguard(element: UnguardBooks, compiler: DDLCompiler, **_: object) -> str:
    del element, compiler
    return NEXT.join(trigger.removal for trigger in _TRIGGERS)


async def missing_guards(connection: AsyncConnection) -> list[str]:
    """What is missing of the guard, one line each; nothing where it stands as it was made."""
    found = {
        row.name: Trigger(row.table, row.name, row.timing, row.event, row.body)
        for row in await connection.execute(_FOUND)
    }
    missing = await foreign_engines(connection)
    for trigger in _TRIGGERS:
        standing = found.get(trigger.name)
        if standing is None:
            missing.append(
                f"trigger {trigger.name} of {trigger.table} is gone, or this user may not see it "
                f"(GRANT TRIGGER ON {trigger.table})"
            )
        elif standing != trigger:
            missing.append(f"trigger {trigger.name} of {trigger.table} is another one than heavylift made")
    return missing
