"""What a merge did with the rows it was given, whichever database did it.

Owns the numbers and that they add up. Refuses to know how they were found.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MergeCounts:
    """Each row given to a merge is exactly one of these, so they sum to the number of rows.

    Attributes:
        inserted: rows whose key the table did not have.
        updated: rows whose key the table had, with other values.
        unchanged: rows whose key the table had, with nothing to change. No new row version was written.
        duplicates: rows superseded by a later one with the same key in the same call.
    """

    inserted: int
    updated: int
    unchanged: int
    duplicates: int

    @property
    def rows(self) -> int:
        """How many rows were given."""
        return self.inserted + self.updated + self.unchanged + self.duplicates
