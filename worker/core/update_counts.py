"""What an update did with the rows that it was about, whichever database did it.

Owns the numbers and that they add up. Refuses to know how they were found.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UpdateCounts:
    """Each row that an update was about is exactly one of these, so they sum to the number of rows.

    Attributes:
        updated: rows that the table had, with other values.
        unchanged: rows that the table had, with nothing to change. No new row version was written.
        missing: rows whose key the table does not have. None is ever inserted.
        duplicates: rows superseded by a later one with the same key in the same call.
    """

    updated: int
    unchanged: int
    missing: int = 0
    duplicates: int = 0

    @property
    def rows(self) -> int:
        """How many rows the update was about."""
        return self.updated + self.unchanged + self.missing + self.duplicates
