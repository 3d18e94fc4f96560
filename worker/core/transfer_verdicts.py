"""What became of a requested transfer, whichever database keeps the books."""

from dataclasses import dataclass
from enum import StrEnum

from worker.core.outcomes import ErrorRecord


class TransferEnd(StrEnum):
    """The ends of a requested transfer. Of the last three nothing is recorded, so that it can be tried again."""

    APPLIED = "applied"
    """Money moved."""
    REFUSED = "refused"
    """It could not be: recorded as its final result."""
    REPLAYED = "replayed"
    """Its key had this very transfer already: nothing was done, and its first result stands."""
    CONFLICT = "conflict"
    """Its key belongs to another transfer."""
    UNSOUND = "unsound"
    """An account is not what its books say."""
    DECLINED = "declined"
    """The database refused what it would make of an account: a constraint of the table, say."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a requested transfer ended.

    Attributes:
        end: which way.
        message: why, for all ends but the first; of a replay the reason for which the first was refused, if it was.
        sqlstate: the database's code, where it declined.
        constraint: the constraint in the way, where it was one.
    """

    end: TransferEnd
    message: str = ""
    sqlstate: str | None = None
    constraint: str | None = None

    @property
    def error(self) -> ErrorRecord:
        """The verdict in the form of an error, as rows are put aside with."""
        return ErrorRecord(self.end.value, self.message, self.sqlstate, traceback="", constraint=self.constraint)
