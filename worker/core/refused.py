"""A row that was refused, and why: what goes into the quarantine."""

from dataclasses import dataclass
from typing import Self

from worker.core.outcomes import ErrorRecord


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that was refused.

    Attributes:
        position: its 1-based line in a file, or its 1-based index among inline rows; 0 for a row of a table
            that was met by its key, which the payload then has.
        reason: one line for a person.
        payload: what it held, JSON-safe.
        sqlstate: the database's code, where the database refused it.
        constraint: the constraint that it violates, where it is one.
    """

    position: int
    reason: str
    payload: dict[str, object]
    sqlstate: str | None = None
    constraint: str | None = None

    @classmethod
    def by_database(cls, position: int, payload: dict[str, object], error: ErrorRecord) -> Self:
        """A row that the database refused, with what it said."""
        return cls(position, error.message, payload, error.sqlstate, error.constraint)
