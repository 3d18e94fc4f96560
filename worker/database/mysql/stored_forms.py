"""Values as a column would have them: rounded to its digits and fractions, padded, in its collation.

Owns the expressions, and whether a column would change by one. Refuses what does not fit: the server does.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, func

from worker.core.table_facts import ColumnFacts
from worker.database.mysql.casts import CastAs, as_bytes, bare, in_collation
from worker.database.mysql.exact_types import label_literal, set_number
from worker.database.mysql.notation import fraction_of, labels_of, scale_of

MOST_DIGITS: Final = 65
"""Of a DECIMAL: with so many, a cast cuts off nothing that storing would refuse."""


def stored_form(value: ColumnElement[Any], facts: ColumnFacts) -> ColumnElement[Any]:
    """An expression's value, as the column's equality will see it once it is stored.

    Args:
        value: text, or of the column's own type.
        facts: the column as the database declares it.
    """
    kind, collation = facts.type_name, facts.collation
    match kind:
        case "character":
            # blanks at its end are never stored
            value = func.rtrim(value)
        case "set":
            labels = labels_of(facts.full_type)
            listed = func.make_set(set_number(value, labels), *map(label_literal, labels))
            return listed if collation is None else in_collation(listed, collation)
        case "json" if collation is None:
            return CastAs(CastAs(value, "JSON"), "CHAR")
        case "binary large object" | "binary varying" | "geometry":
            return value
    if collation is not None:
        return in_collation(value, collation)
    return CastAs(value, _written(facts))


def as_stored(value: ColumnElement[object], facts: ColumnFacts) -> ColumnElement[object]:
    """The same of a value that is bound under the column's exact type: an enumeration's is a number then."""
    match facts.type_name:
        case "enum":
            value = func.elt(value, *map(label_literal, labels_of(facts.full_type)))
        case "set":
            value = func.make_set(value, *map(label_literal, labels_of(facts.full_type)))
            return value if facts.collation is None else in_collation(value, facts.collation)
    return stored_form(value, facts)


def member_number(value: ColumnElement[Any], facts: ColumnFacts) -> ColumnElement[Any]:
    """The number of a member of an enumeration, or of a set, by which the column is sorted."""
    labels = labels_of(facts.full_type)
    return set_number(value, labels) if facts.type_name == "set" else func.field(value, *map(label_literal, labels))


def differs(current: ColumnElement[Any], incoming: ColumnElement[Any], facts: ColumnFacts) -> ColumnElement[bool]:
    """Whether storing a value would change a column, even where the column's equality overlooks it.

    Args:
        current: the column.
        incoming: the value in its stored form.
        facts: the column as the database declares it.
    """
    if facts.comparable:
        return bare(current).is_distinct_from(incoming)
    if facts.collation is None:
        current = CastAs(current, "CHAR")
    return as_bytes(current).is_distinct_from(as_bytes(incoming))


_CASTS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("boolean", "tinyint", "smallint", "mediumint", "integer", "bigint"), "SIGNED"),
    **dict.fromkeys(("bit", "year"), "UNSIGNED"),
    "real": "FLOAT",
    "double precision": "DOUBLE",
    "date": "DATE",
}


def _written(facts: ColumnFacts) -> str:
    """The type of a CAST."""
    kind = facts.type_name
    if kind in _CASTS:
        return _CASTS[kind]
    if kind.endswith(" unsigned"):
        return "UNSIGNED"
    if kind == "numeric":
        return f"DECIMAL({MOST_DIGITS},{scale_of(facts.full_type)})"
    if kind == "time without time zone":
        return f"TIME({fraction_of(facts.full_type)})"
    if kind.startswith("timestamp "):
        return f"DATETIME({fraction_of(facts.full_type)})"
    # a type of the database's own, such as binary(16) or uuid
    return facts.full_type.upper()
