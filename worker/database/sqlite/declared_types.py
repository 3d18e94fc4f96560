"""What a column of a declared type keeps: SQLite knows no more of a type than which of five affinities its name has.

```text
NUMERIC(12, 2)   an integer, or a 64-bit float: exact up to 15 digits
DATETIME         the text that it is given: SQLAlchemy's, in which the order of the texts is that of the moments
VARCHAR(20)      text of any length
```

Owns the reading of declared types. What SQLite does not enforce (a length, decimals, a range of dates) is a promise of
the table all the same: values that do not fit are refused before they are sent, as other databases refuse them.
"""

import re
from dataclasses import dataclass
from typing import Final

from sqlalchemy.types import TypeDecorator, TypeEngine

from worker.database.sqlite.exact_types import Affinity

EXACT_DIGITS: Final = 15
"""A decimal number of so many digits becomes a float, and that the same number again."""

SMALLEST: Final = -(2**63)
LARGEST: Final = 2**63 - 1

_DECLARED: Final = re.compile(
    r"\s*(?P<name>[^(]*?)\s*(?:\(\s*(?P<first>\d+)\s*(?:,\s*(?P<second>\d+)\s*)?\).*)?", re.DOTALL
)
# SQLite's own rules, in its own order: a FLOATING POINT is an INTEGER, and a STRING a NUMERIC
_RULES: Final = (
    (Affinity.INTEGER, ("INT",)),
    (Affinity.TEXT, ("CHAR", "CLOB", "TEXT")),
    (Affinity.BLOB, ("BLOB",)),
    (Affinity.REAL, ("REAL", "FLOA", "DOUB")),
)
_WRITTEN: Final = (
    ("BOOL", "boolean", "bool"),
    ("DATETIME", "timestamp without time zone", "timestamp"),
    ("TIMESTAMP", "timestamp without time zone", "timestamp"),
    ("DATE", "date", "date"),
    ("TIME", "time without time zone", "time"),
    ("JSON", "json", "text"),
)
"""Types whose values are other than numbers, by how their names begin."""


@dataclass(frozen=True, slots=True)
class DeclaredType:
    """What is known of a column by its declared type. See `ColumnFacts` for the words.

    Attributes:
        affinity: what it makes of values.
        type_name: without length or precision.
        full_type: with them.
        driver_type: which Python values it takes.
        length: the most characters of a text.
        exact_digits: how many digits it keeps, where it declares more.
    """

    affinity: Affinity
    type_name: str
    full_type: str
    driver_type: str
    length: int | None = None
    exact_digits: int | None = None


def affinity_of_name(declared: str, *, strict: bool) -> Affinity:
    """The affinity of a declared type.

    Args:
        declared: as the schema has it; empty where a column has none.
        strict: whether the table is STRICT.
    """
    name = declared.upper()
    if not name.strip() or (strict and name == "ANY"):
        return Affinity.BLOB
    for affinity, parts in _RULES:
        if any(part in name for part in parts):
            return affinity
    return Affinity.NUMERIC


def read_declared(declared: str, *, strict: bool) -> DeclaredType:
    """What a column of a declared type keeps.

    Args:
        declared: as the schema has it; empty where a column has none.
        strict: whether the table is STRICT.
    """
    affinity = affinity_of_name(declared, strict=strict)
    found = _DECLARED.fullmatch(declared)
    name, first, second = found.group("name", "first", "second") if found else (declared, None, None)
    match affinity:
        case Affinity.INTEGER:
            return DeclaredType(affinity, "integer", "integer", "int8")
        case Affinity.REAL:
            return DeclaredType(affinity, "double precision", "double precision", "float8")
        case Affinity.TEXT:
            return _text(name.upper(), first)
        case Affinity.BLOB:
            kind = ("blob", "bytea") if "BLOB" in declared.upper() else ("any", "text")
            return DeclaredType(affinity, kind[0], kind[0], kind[1])
        case Affinity.NUMERIC:
            return _written(name.upper()) or _numeric(first, second)


def _text(name: str, length: str | None) -> DeclaredType:
    if "CHAR" not in name:
        return DeclaredType(Affinity.TEXT, "text", "text", "text")
    full = "character varying" if length is None else f"character varying({length})"
    return DeclaredType(Affinity.TEXT, "character varying", full, "text", int(length) if length else None)


def _written(name: str) -> DeclaredType | None:
    for beginning, type_name, driver_type in _WRITTEN:
        if name.startswith(beginning):
            return DeclaredType(Affinity.NUMERIC, type_name, type_name, driver_type)
    return None


def _numeric(precision: str | None, scale: str | None) -> DeclaredType:
    full = "numeric" if precision is None else f"numeric({precision},{scale or 0})"
    fits = precision is not None and int(precision) <= EXACT_DIGITS
    return DeclaredType(Affinity.NUMERIC, "numeric", full, "numeric", exact_digits=None if fits else EXACT_DIGITS)


def undecorated(type_: TypeEngine[object]) -> TypeEngine[object]:
    """The type beneath any type decorators of a model."""
    while isinstance(type_, TypeDecorator):
        type_ = type_.impl_instance
    return type_
