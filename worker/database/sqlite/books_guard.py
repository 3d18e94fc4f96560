"""The guard of the books on SQLite: triggers that fire for everybody, and the check that they still stand.

Owns the triggers. SQLite's fire for each row: that a transfer's two entries cancel out is checked as the second is
added. That there is a second is the verifier's to find.
"""

from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import DDLCompiler

from worker.database.books_guard import GuardBooks, UnguardBooks
from worker.database.guards import NEXT
from worker.database.sqlite.append_only import Trigger, append_only, missing_triggers

_REFUSAL: Final = "the books are only ever added to. To correct a transfer, make another one in the other direction"

TRIGGERS: Final = (
    # a header whose key is known is passed over, as ON CONFLICT DO NOTHING has it
    *append_only("heavylift_transfers", "idempotency_key = NEW.idempotency_key", _REFUSAL, known="IGNORE"),
    *append_only(
        "heavylift_entries",
        "accounts_table = NEW.accounts_table AND money_column = NEW.money_column AND account = NEW.account "
        "AND version = NEW.version OR idempotency_key = NEW.idempotency_key AND kind = NEW.kind",
        _REFUSAL,
    ),
    *append_only("heavylift_refusals", "idempotency_key = NEW.idempotency_key", _REFUSAL),
    Trigger(
        "heavylift_entries",
        "heavylift_entries_cancel_out",
        # amounts are written in one way only, so that what cancels out differs in its sign alone
        "CREATE TRIGGER heavylift_entries_cancel_out AFTER INSERT ON heavylift_entries\n"
        "WHEN EXISTS (SELECT 1 FROM heavylift_entries AS other\n"
        "             WHERE other.idempotency_key = NEW.idempotency_key AND other.kind <> NEW.kind\n"
        "                   AND other.amount <> '-' || NEW.amount AND NEW.amount <> '-' || other.amount)\n"
        "BEGIN SELECT RAISE(ABORT, 'heavylift_entries: a transfer has two entries, which cancel out'); END",
    ),
)


@compiles(GuardBooks, "sqlite")
def _guard(element: GuardBooks, compiler: DDLCompiler, **_: object) -> str:
    del element, compiler
    return NEXT.join(trigger.statement for trigger in TRIGGERS)


@compiles(UnguardBooks, "sqlite")
def _unguard(element: UnguardBooks, compiler: DDLCompiler, **_: object) -> str:
    del element, compiler
    return NEXT.join(trigger.removal for trigger in TRIGGERS)


async def missing_guards(connection: AsyncConnection) -> list[str]:
    """What is missing of the guard, one line each; nothing where it stands as it was made."""
    return await missing_triggers(connection, TRIGGERS)
