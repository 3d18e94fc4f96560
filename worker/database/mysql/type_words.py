"""Columns of MariaDB and MySQL in the words of `ColumnFacts`: the SQL standard's where it has one.

Owns that translation, and which collations see every change. Refuses to ask a server: `catalogue` does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from worker.core.table_facts import ColumnFacts
from worker.database.mysql.exact_types import exact_type
from worker.database.mysql.notation import MOST_FRACTION, labels_of

AUTO_INCREMENT: Final = "auto_increment"
"""Stands as the default of a column that the database numbers."""

_INTEGERS: Final[Mapping[str, tuple[str, int, str, str]]] = {
    # the standard's word, bits, and the driver's types: signed, unsigned
    "tinyint": ("tinyint", 8, "int2", "int2"),
    "smallint": ("smallint", 16, "int2", "int4"),
    "mediumint": ("mediumint", 24, "int4", "int4"),
    "int": ("integer", 32, "int4", "int8"),
    "bigint": ("bigint", 64, "int8", "int8"),
}
_UNBOUNDED: Final = 2**32 - 1
_BYTES: Final = {
    "binary": "binary",
    "varbinary": "binary varying",
    **dict.fromkeys(("tinyblob", "blob", "mediumblob", "longblob"), "binary large object"),
    **dict.fromkeys(("geometry", "point", "linestring", "polygon"), "geometry"),
    **dict.fromkeys(("multipoint", "multilinestring", "multipolygon"), "geometry"),
    **dict.fromkeys(("geomcollection", "geometrycollection", "vector"), "geometry"),
}
_TEXTS: Final = frozenset({"tinytext", "text", "mediumtext", "longtext"})
# what begins with 0 to 99 would silently become a year of this century or the last
_YEARS: Final = (1901, 2155)


@dataclass(frozen=True, slots=True)
class _Words:
    """What a type is called, and what of its values is known."""

    type_name: str
    full_type: str
    driver_type: str = "text"
    text: bool = False
    max_length: int | None = None
    range: tuple[int, int] | None = None
    comparable: bool = True


_MOMENTS: Final[Mapping[str, tuple[str, str, str]]] = {
    "date": ("date", "", "date"),
    "datetime": ("timestamp", " without time zone", "timestamp"),
    "timestamp": ("timestamp", " with time zone", "timestamptz"),
    "time": ("time", " without time zone", "time"),
}
_PLAIN: Final[Mapping[str, _Words]] = {
    "float": _Words("real", "real", "float4"),
    "double": _Words("double precision", "double precision", "float8"),
    "year": _Words("year", "year", "int2", range=_YEARS),
    "uuid": _Words("uuid", "uuid", "uuid"),
    "json": _Words("json", "json", comparable=False),
}


def column_facts(row: Mapping[str, Any], *, document: bool, mariadb: bool) -> ColumnFacts:
    """One column.

    Args:
        row: of information_schema.columns.
        document: whether it is text that a constraint keeps JSON, as MariaDB has it.
        mariadb: whether the server is a MariaDB, which writes defaults as SQL.
    """
    words = _Words("json", "json", comparable=False) if document else _words(row)
    minimum, maximum = words.range or (None, None)
    return ColumnFacts(
        name=row["column_name"],
        type_name=words.type_name,
        full_type=words.full_type,
        nullable=row["is_nullable"] == "YES",
        default=_default(row, mariadb=mariadb),
        generated=bool(row["generation_expression"]),
        text=words.text,
        max_length=words.max_length,
        minimum=minimum,
        maximum=maximum,
        comparable=words.comparable,
        driver_type=words.driver_type,
        collation=row["collation_name"],
        finite=words.driver_type in {"float4", "float8"},
        exact_type=exact_type(words.type_name, words.driver_type, row["collation_name"], labels_of(words.full_type)),
    )


def _default(row: Mapping[str, Any], *, mariadb: bool) -> str | None:
    if "auto_increment" in row["extra"].lower():
        return AUTO_INCREMENT
    written: str | None = row["column_default"]
    if written is None or (mariadb and written == "NULL"):
        return None
    if mariadb or "DEFAULT_GENERATED" in row["extra"]:
        return written
    return "'{}'".format(written.replace("\\", "\\\\").replace("'", "''"))


def _words(row: Mapping[str, Any]) -> _Words:  # noqa: PLR0911 - one for each family of types
    kind, column_type = row["data_type"].lower(), row["column_type"]
    if kind in _INTEGERS:
        return _integer(kind, column_type)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind in _BYTES:
        return _Words(_BYTES[kind], column_type, "bytea")
    if kind in _MOMENTS:
        return _moment(kind, int(row["datetime_precision"] or 0))
    if kind in _TEXTS or kind in {"char", "varchar"}:
        return _text(kind, int(row["character_maximum_length"]), row["collation_name"])
    if kind == "decimal":
        return _Words("numeric", f"numeric({row['numeric_precision']},{row['numeric_scale']})", "numeric")
    if kind == "bit":
        return _Words("bit", column_type, "int8", range=(0, 2 ** int(row["numeric_precision"]) - 1))
    return _Words(kind, column_type)


def _integer(kind: str, column_type: str) -> _Words:
    word, bits, signed, unsigned = _INTEGERS[kind]
    if column_type == "tinyint(1)":
        # what BOOLEAN is short for
        return _Words("boolean", "boolean", "bool", range=(-128, 127))
    if "unsigned" in column_type:
        name = f"{word} unsigned"
        return _Words(name, name, unsigned, range=(0, 2**bits - 1))
    return _Words(word, word, signed, range=(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))


def _moment(kind: str, precision: int) -> _Words:
    word, zone, driver_type = _MOMENTS[kind]
    rounded = "" if kind == "date" or precision == MOST_FRACTION else f"({precision})"
    return _Words(f"{word}{zone}", f"{word}{rounded}{zone}", driver_type)


def _text(kind: str, length: int, collation: str) -> _Words:
    comparable = sees_every_change(collation)
    if kind in _TEXTS:
        # counted in bytes: a text of as many characters may still be too long, which the server says then
        bound = None if length >= _UNBOUNDED else length
        return _Words("text", "text" if bound is None else kind, text=True, max_length=bound, comparable=comparable)
    name = "character" if kind == "char" else "character varying"
    # blanks at the end of a char are never stored, whatever the collation
    sees = comparable and kind == "varchar"
    return _Words(name, f"{name}({length})", text=True, max_length=length, comparable=sees)


def sees_every_change(collation: str) -> bool:
    """Whether texts that are equal in a collation are the same text.

    Only where it compares bytes and does not pad: most collations overlook case, accents, or blanks at the end.
    """
    return collation == "binary" or collation.endswith(("_nopad_bin", "_0900_bin"))
