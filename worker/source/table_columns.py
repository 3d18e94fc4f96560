"""How the columns of one table are read so that what they hold reaches another table as it is.

Owns the form in which a value travels: the model's, but for documents, whose numbers a fast parser would round, for
moments, of which a driver takes the last for infinity, and for what Python has no type for: these travel as the
database writes them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time
from enum import Enum as PythonEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any, Final

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Date,
    DateTime,
    Enum,
    Float,
    String,
    Table,
    Text,
    Time,
    cast,
    type_coerce,
)
from sqlalchemy.types import NullType, TypeEngine

from worker.core.table_facts import TableFacts
from worker.source.column_types import implied_type, undecorated
from worker.source.json_numbers import parse_document
from worker.source.raw_values import Lost

_ADDRESSES: Final = (IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network)


@dataclass(frozen=True, slots=True)
class ColumnReading:
    """How one column is read.

    Attributes:
        name: the column's.
        expression: what is selected.
        convert: what is made of each value other than NULL; None leaves them as they are.
    """

    name: str
    expression: ColumnElement[object]
    convert: Callable[[object], object] | None = None


def writable_columns(table: Table, facts: TableFacts) -> dict[str, TypeEngine[object]]:
    """The columns of a table that a source may give values for, with the types that its model gives them.

    Args:
        table: the registered table.
        facts: what the database says of it: a column that the database alone writes is left out.
    """
    generated = {name for name, column in facts.columns.items() if column.generated}
    return {column.name: column.type for column in table.columns if column.name not in generated}


def reading_of(column: Column[object], exact: TypeEngine[Any], target: TypeEngine[object] | None) -> ColumnReading:
    """How a column is read.

    Args:
        column: of the table that is read.
        exact: the type under which its values come as they are.
        target: the type of the column that its values are for; None where there is none.
    """
    plain = undecorated(column.type)
    expression: ColumnElement[object] = column
    convert: Callable[[object], object] | None = None
    if isinstance(column.type, JSON | Float):
        # A cast to text would round a number that SQLite keeps as a document, and a driver may have read the document;
        # a DOUBLE that SQLAlchemy finds on MariaDB would become a decimal of ten digits.
        expression = type_coerce(column, exact)
        convert = _document if isinstance(column.type, JSON) else None
    elif isinstance(plain, Date | DateTime | Time):
        expression, convert = cast(column, Text), _moment_of(plain)
    elif isinstance(column.type, NullType):
        expression = cast(column, Text)
    elif isinstance(column.type, Enum) and isinstance(target, Enum):
        # a table without a model has the labels only, and validation wants the members
        expression = type_coerce(column, target)
    elif isinstance(column.type, String) and isinstance(target, Enum) and target.enum_class is not None:
        # a database without enumerations has the labels as any other text
        convert = _member_of(target, target.enum_class)
    elif isinstance(column.type, String) and not isinstance(column.type, Enum):
        # as the driver has it: of MariaDB's SET, SQLAlchemy would make a set
        expression = type_coerce(column, Text())
    elif implied_type(column.type) is object:
        convert = _written
    return ColumnReading(column.name, expression, convert)


def _moment_of(type_: Date | DateTime | Time) -> Callable[[object], object]:
    """Reads a moment from the text that the database writes: drivers make moments of what is none.

    PostgreSQL's takes the last day for infinity, and back; of MariaDB's -00:00:01 SQLAlchemy makes 23:59:59.
    """
    kind = datetime if isinstance(type_, DateTime) else date if isinstance(type_, Date) else time
    read = kind.fromisoformat

    def moment(text: object) -> object:
        try:
            return read(str(text))
        except ValueError:
            # infinity, a year before 1 or after 9999, a time beyond a day's, or a DateStyle that is not ISO
            return Lost(f"a moment that has no place in the calendar of this program: {text}")

    return moment


def _member_of(target: Enum, enum_class: type[PythonEnum]) -> Callable[[object], object]:
    """Finds a member by the label that is stored of it; validation sees to texts that are none."""
    members: dict[object, object] = dict(zip(target.enums, enum_class, strict=True))
    return lambda text: members.get(text, text)


def _document(text: object) -> object:
    try:
        return parse_document(str(text))
    except (ValueError, ArithmeticError, RecursionError) as error:
        # validation refuses it, and with it this row alone
        return Lost(f"a document that cannot be read: {error}")


def _written(value: object) -> object:
    return str(value) if isinstance(value, _ADDRESSES) else value
