"""What the text of a column's type says: members of an enumeration, decimals, fractions of a second.

Owns reading it. The texts are `ColumnFacts.full_type`'s, which `type_words` writes.
"""

import re
from typing import Final

MOST_FRACTION: Final = 6

_MEMBER: Final = re.compile(r"'((?:[^']|'')*)'")
_SCALE: Final = re.compile(r",(\d+)\)")
_LENGTH: Final = re.compile(r"\((\d+)\)")


def labels_of(full_type: str) -> tuple[str, ...]:
    """The labels of an enumeration or a set: `enum('a','b')`."""
    return tuple(label.replace("''", "'") for label in _MEMBER.findall(full_type))


def fraction_of(full_type: str) -> int:
    """The digits after a second's point: `timestamp(3) without time zone`."""
    found = _LENGTH.search(full_type)
    return int(found[1]) if found else MOST_FRACTION


def scale_of(full_type: str) -> int:
    """The decimals of a number: `numeric(12,2)`."""
    found = _SCALE.search(full_type)
    return int(found[1]) if found else 0
