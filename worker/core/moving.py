"""A row on its way from one value of a column to another, and how values stand in an audit row.

Owns the shape and the wording. Refuses to know a database.
"""

from dataclasses import dataclass
from decimal import Decimal
from math import isfinite


@dataclass(frozen=True, slots=True)
class MovingRow:
    """A row that is locked.

    Attributes:
        key: its primary key, as the database has it.
        old: what the column held when the row was locked.
        differs: whether the new value would change it.
    """

    key: tuple[object, ...]
    old: object
    differs: bool


def audited(value: object) -> object:
    """A value as JSON that says exactly what it is: what JSON has no form for, or no exact one, as text.

    Args:
        value: as the database has it: dates, times and the like in their written form.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if isfinite(value) else str(Decimal(value))
        case bytes():
            return f"\\x{value.hex()}"
        case _:
            return str(value)
