"""A trigger of the ledger's own on MariaDB and MySQL, and the two that refuse every change of a table's rows.

Owns their spelling. Refuses to know which tables are guarded.
"""

from dataclasses import dataclass

DENIED = 1142
"""The number of the error that refuses an edit, the server's own for what a user may not do: it is about no row."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger, as it is made and as the information schema shows it.

    Attributes:
        table: whose rows it looks at.
        name: its own.
        timing: BEFORE or AFTER.
        event: INSERT, UPDATE or DELETE.
        body: one statement.
    """

    table: str
    name: str
    timing: str
    event: str
    body: str

    @property
    def creation(self) -> str:
        """The statement that makes it where it is not there yet."""
        return (
            f"CREATE TRIGGER IF NOT EXISTS {self.name} {self.timing} {self.event} ON {self.table} FOR EACH ROW "
            f"{self.body}"
        )

    @property
    def removal(self) -> str:
        """The statement that drops it where it is there."""
        return f"DROP TRIGGER IF EXISTS {self.name}"


def refuse_edits(table: str, message: str) -> tuple[Trigger, Trigger]:
    """The triggers that refuse to change rows and to delete them.

    Args:
        table: of the ledger.
        message: what is said; at most 128 characters, without quotes.
    """
    body = f"SIGNAL SQLSTATE '42000' SET MYSQL_ERRNO = {DENIED}, MESSAGE_TEXT = '{message}'"
    return (
        Trigger(table, f"{table}_no_update", "BEFORE", "UPDATE", body),
        Trigger(table, f"{table}_no_delete", "BEFORE", "DELETE", body),
    )
