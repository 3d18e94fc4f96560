"""Triggers that make a table of SQLite's one that is only ever added to, for everybody who opens the file.

Owns which edits they stop. They stop mistakes and careless hands: whoever can write to the file can drop them, and that
is what the verifier then finds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_FOUND = text("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = :name")


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger: its table, its name, and the statement that makes it."""

    table: str
    name: str
    statement: str

    @property
    def removal(self) -> str:
        """The statement that drops it."""
        return f"DROP TRIGGER {self.name}"


def append_only(table: str, same: str, refusal: str, *, known: str = "ABORT") -> tuple[Trigger, ...]:
    """The triggers that let rows of a table be added and nothing else.

    Args:
        table: its name.
        same: whether an old row has a key of the new one (`NEW`), in SQL.
        refusal: what an edit is told.
        known: what becomes of a new row with the key of an old one. INSERT OR REPLACE deletes the old one, without
            telling any trigger of DELETE: so the new one is refused (`ABORT`) or, where that is how a key is found to
            be taken, passed over (`IGNORE`).
    """
    raised = "RAISE(IGNORE)" if known == "IGNORE" else f"RAISE(ABORT, '{table}: {refusal}')"
    return (
        *(
            Trigger(
                table,
                f"{table}_no_{event.lower()}",
                f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table}\n"
                f"BEGIN SELECT RAISE(ABORT, '{table}: {refusal}'); END",
            )
            for event in ("UPDATE", "DELETE")
        ),
        Trigger(
            table,
            f"{table}_no_replace",
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table}\n"  # noqa: S608 - constant texts
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {same})\n"
            f"BEGIN SELECT {raised}; END",
        ),
    )


async def missing_triggers(connection: AsyncConnection, triggers: Sequence[Trigger]) -> list[str]:
    """What is missing of some triggers, one line each; nothing where all stand as they were made."""
    missing = []
    for trigger in triggers:
        found = (await connection.execute(_FOUND, {"name": trigger.name})).scalar_one_or_none()
        if found is None:
            missing.append(f"trigger {trigger.name} of {trigger.table} is gone")
        elif found != trigger.statement:
            missing.append(f"trigger {trigger.name} of {trigger.table} is another one than heavylift made")
    return missing
