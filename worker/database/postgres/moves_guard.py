"""The guard of the audit trail of moved rows on PostgreSQL: a trigger that fires for everybody.

Owns its text. It stops mistakes and careless hands; whoever owns the table can disable it.
"""

from typing import Final

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import DDLCompiler

from worker.database.moves_guard import GuardMoves, UnguardMoves

# One statement: the driver prepares what it sends, and takes one at a time. ALWAYS: not even a session that calls
# itself a replica edits the trail.
_GUARD: Final = """
DO $guard$
BEGIN
    CREATE FUNCTION heavylift_refuse_edits_of_moves() RETURNS trigger LANGUAGE plpgsql AS $body$
    BEGIN
        RAISE EXCEPTION '% of % is refused: the audit trail is only ever added to', TG_OP, TG_TABLE_NAME
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'To correct a move, move the rows back: that is in the trail, too.';
    END
    $body$;
    CREATE TRIGGER heavylift_moves_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON heavylift_moves
        FOR EACH STATEMENT EXECUTE FUNCTION heavylift_refuse_edits_of_moves();
    ALTER TABLE heavylift_moves ENABLE ALWAYS TRIGGER heavylift_moves_append_only;
END
$guard$
"""


@compiles(GuardMoves, "postgresql")
def _guard(element: GuardMoves, compiler: DDLCompiler, **_: object) -> str:
    del element, compiler
    return _GUARD


@compiles(UnguardMoves, "postgresql")
def _unguard(element: UnguardMoves, compiler: DDLCompiler, **_: object) -> str:
    del element, compiler
    return "DROP FUNCTION heavylift_refuse_edits_of_moves() CASCADE"
