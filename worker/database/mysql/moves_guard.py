"""The guard of the audit trail of moved rows on MariaDB and MySQL: triggers for each row.

Owns their text. They stop mistakes and careless hands, not TRUNCATE, which fires none.
"""

from typing import Final

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import DDLCompiler

from worker.database.guards import NEXT
from worker.database.moves_guard import GuardMoves, UnguardMoves
from worker.database.mysql.triggers import refuse_edits

_TRIGGERS: Final = refuse_edits(
    "heavylift_moves", "heavylift_moves is only ever added to; to correct a move, move back"
)


@compiles(GuardMoves, "mysql")
def _guard(element: GuardMoves, compiler: DDLCompiler, **_: object) -> str:
    del element, compiler
    return NEXT.join(trigger.creation for trigger in _TRIGGERS)


@compiles(UnguardMoves, "mysql")
def _unguard(element: UnguardMoves, compiler: DDLCompiler, **_: object) -> str:
    del element, compiler
    return NEXT.join(trigger.removal for trigger in _TRIGGERS)
