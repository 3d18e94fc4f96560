"""The guard of the books on PostgreSQL: triggers that fire for everybody, and the check that they still stand.

Owns the triggers' text. They stop mistakes and careless hands. Whoever owns the tables can disable a trigger, and that
is what the verifier then finds.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import DDLCompiler

from worker.database.books_guard import GuardBooks, UnguardBooks

_REFUSE_EDITS: Final = """
BEGIN
    RAISE EXCEPTION '% of % is refused: the books are only ever added to', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'To correct a transfer, make another one in the other direction.';
END
"""

_REFUSE_IMBALANCE: Final = """
DECLARE
    wrong record;
BEGIN
    SELECT idempotency_key AS key, sum(amount) AS total INTO wrong
    FROM added WHERE idempotency_key IS NOT NULL
    GROUP BY idempotency_key HAVING count(*) <> 2 OR sum(amount) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'The entries of transfer % sum to %: a transfer has two, which cancel out',
            wrong.key, wrong.total USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END
"""

_FUNCTIONS: Final = {"heavylift_refuse_edits": _REFUSE_EDITS, "heavylift_refuse_imbalance": _REFUSE_IMBALANCE}


@dataclass(frozen=True, slots=True)
class _Trigger:
    """A trigger as it is made, and the sum by which pg_trigger.tgtype says the same (PostgreSQL's trigger.h)."""

    table: str
    name: str
    when: str
    function: str
    type: int

    @property
    def statements(self) -> str:
        # ALWAYS: not even a session that calls itself a replica edits the books
        return (
            f"CREATE TRIGGER {self.name} {self.when} FOR EACH STATEMENT EXECUTE FUNCTION {self.function}();\n"
            f"ALTER TABLE {self.table} ENABLE ALWAYS TRIGGER {self.name};\n"
        )


_TRIGGERS: Final = (
    *(
        _Trigger(
            table,
            f"{table}_append_only",
            f"BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}",
            "heavylift_refuse_edits",
            type=2 + 16 + 8 + 32,
        )
        for table in ("heavylift_transfers", "heavylift_entries", "heavylift_refusals")
    ),
    _Trigger(
        "heavylift_entries",
        "heavylift_entries_cancel_out",
        "AFTER INSERT ON heavylift_entries REFERENCING NEW TABLE AS added",
        "heavylift_refuse_imbalance",
        type=4,
    ),
)

_FOUND: Final = text(
    """
    SELECT trigger.tgname AS name, trigger.tgtype AS type, trigger.tgenabled AS enabled, function.proname AS function,
           function.prosrc AS source, trigger.tgqual IS NOT NULL AS conditional
    FROM pg_catalog.pg_trigger AS trigger JOIN pg_catalog.pg_proc AS function ON function.oid = trigger.tgfoid
    WHERE trigger.tgrelid = CAST(to_regclass(:table) AS oid) AND NOT trigger.tgisinternal
    """
)


@compiles(GuardBooks, "postgresql")
def _guard(element: GuardBooks, compiler: DDLCompiler, **_: object) -> str:
    del element, compiler
    functions = "".join(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $body${source}$body$;\n"
        for name, source in _FUNCTIONS.items()
    )
    # one statement: the driver prepares what it sends, and takes one at a time
    return f"DO $guard$\nBEGIN\n{functions}{''.join(trigger.statements for trigger in _TRIGGERS)}END\n$guard$"


@compiles(UnguardBooks, "postgresql")
def _unguard(element: UnguardBooks, compiler: DDLCompiler, **_: object) -> str:
    del element, compiler
    return f"DROP FUNCTION {', '.join(f'{name}()' for name in _FUNCTIONS)} CASCADE"


async def missing_guards(connection: AsyncConnection) -> list[str]:
    """What is missing of the guard, one line each; nothing where it stands as it was made."""
    missing = []
    for trigger in _TRIGGERS:
        rows = {row.name: row for row in await connection.execute(_FOUND, {"table": trigger.table})}
        row = rows.get(trigger.name)
        if row is None:
            missing.append(f"trigger {trigger.name} of {trigger.table} is gone")
        elif _char(row.enabled) != "A":
            missing.append(f"trigger {trigger.name} of {trigger.table} is not enabled for everybody (ENABLE ALWAYS)")
        elif row.conditional or (row.type, row.function) != (trigger.type, trigger.function):
            missing.append(f"trigger {trigger.name} of {trigger.table} is another one than heavylift made")
        elif row.source != _FUNCTIONS[trigger.function]:
            missing.append(f"function {trigger.function} was changed")
    return missing


def _char(value: object) -> str:
    # PostgreSQL's "char" comes as a byte
    return value.decode() if isinstance(value, bytes) else str(value)
