"""The guard of the audit trail of moved rows on SQLite.

Owns its triggers; `worker.database.sqlite.append_only` says what they stop.
"""

from typing import Final

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import DDLCompiler

from worker.database.guards import NEXT
from worker.database.moves_guard import GuardMoves, UnguardMoves
from worker.database.sqlite.append_only import append_only

TRIGGERS: Final = append_only(
    "heavylift_moves",
    "id = NEW.id",
    "the audit trail is only ever added to. To correct a move, move the rows back: that is in the trail, too",
)


@compiles(GuardMoves, "sqlite")
def _guard(element: GuardMoves, compiler: DDLCompiler, **_: object) -> str:
    del element, compiler
    return NEXT.join(trigger.statement for trigger in TRIGGERS)


@compiles(UnguardMoves, "sqlite")
def _unguard(element: UnguardMoves, compiler: DDLCompiler, **_: object) -> str:
    del element, compiler
    return NEXT.join(trigger.removal for trigger in TRIGGERS)
