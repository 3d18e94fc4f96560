"""A row that was refused, and why: what goes into the quarantine."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that was refused.

    Attributes:
        position: its 1-based line in a file, or its 1-based index among inline rows.
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
