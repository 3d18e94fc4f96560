"""The types under which a column's values are read and bound exactly, whatever a model says of the column.

Dates and times travel as text: a zero date is none of Python's, nor is a TIME of 800 hours. A FLOAT is read as the
double that it is, since the server would write six digits of it. An enumeration's order is the order of its members,
but compared with text it is text: it is compared by number. Owns that choice. Refuses to validate.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import reduce
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Dialect,
    Double,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Text,
    func,
    literal,
    literal_column,
    type_coerce,
)
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.types import TypeDecorator, TypeEngine

from worker.database.mysql.casts import CastAs, bare

_MINUTE: Final = 60
_SECOND: Final = timedelta(seconds=1)


def written_moment(value: object) -> object:
    """A date, a time or a moment as these databases write them: moments in UTC, without saying so."""
    match value:
        case datetime():
            moment = value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
            return moment.isoformat(sep=" ")
        case date() | time():
            return value.isoformat()
        case timedelta():
            seconds, micros = abs(value) // _SECOND, abs(value).microseconds
            minutes, second = divmod(seconds, _MINUTE)
            hour, minute = divmod(minutes, _MINUTE)
            return f"{'-' if value < timedelta() else ''}{hour:02d}:{minute:02d}:{second:02d}.{micros:06d}"
    return value


class Kept(String):
    """Text that is compared in its column's collation, whichever that is.

    Args:
        within: that collation, for where text of other origin is to meet the column. None where it has none.
    """

    def __init__(self, within: str | None = None) -> None:
        super().__init__()
        self.within = within


class Written(TypeDecorator[Any]):
    """A value in its written form, which travels as text both ways and is compared as what the column is.

    Args:
        cast_to: the type of a CAST that makes it of text.
    """

    impl = Text
    cache_ok = True

    def __init__(self, cast_to: str) -> None:
        super().__init__()
        self.cast_to = cast_to

    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:
        """A value of the type that a model has for it, as text."""
        del dialect
        value = written_moment(value)
        return value if value is None or isinstance(value, str) else str(value)

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """A column that is read."""
        return CastAs(column, "CHAR", Text())


class Single(TypeDecorator[float]):
    """A number of single precision, as the double that has the same value."""

    impl = Double
    cache_ok = True

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """A column that is read."""
        return CastAs(column, "DOUBLE", Double())


class Bits(TypeDecorator[int]):
    """A BIT column as the number that its bits are."""

    impl = BigInteger
    cache_ok = True

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """A column that is read."""
        return bare(column).op("+")(literal_column("0"))


class NativeUuid(TypeDecorator[UUID]):
    """MariaDB's UUID, which the driver has as text."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:
        """As text, with its hyphens."""
        del dialect
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> UUID | None:
        """From text."""
        del dialect
        return None if value is None else UUID(value)


class Label(TypeDecorator[str]):
    """A member of an enumeration by its label, compared by its number.

    Args:
        labels: in their order.
    """

    impl = Text
    cache_ok = True

    def __init__(self, labels: tuple[str, ...]) -> None:
        super().__init__()
        self.labels = labels

    def bind_expression(self, bindvalue: BindParameter[Any]) -> ColumnElement[Any]:
        """A parameter: sent as text, compared as a number."""
        return func.field(type_coerce(bindvalue, Text()), *map(label_literal, self.labels), type_=Integer())


class Labels(TypeDecorator[str]):
    """Some members of a set by their labels, compared by the number that the set's bits are.

    Args:
        labels: in their order.
    """

    impl = Text
    cache_ok = True

    def __init__(self, labels: tuple[str, ...]) -> None:
        super().__init__()
        self.labels = labels

    def bind_expression(self, bindvalue: BindParameter[Any]) -> ColumnElement[Any]:
        """A parameter: sent as text, compared as a number."""
        return set_number(type_coerce(bindvalue, Text()), self.labels)


def set_number(value: ColumnElement[Any], labels: tuple[str, ...]) -> ColumnElement[Any]:
    """The number of a set that is written as text, in whatever order."""
    bits = [
        func.sign(func.find_in_set(label_literal(label), value)).op("*")(literal_column(str(2**at)))
        for at, label in enumerate(labels)
    ]
    return reduce(lambda left, right: left.op("|")(right), bits)


_BY_DRIVER: Final[Mapping[str, TypeEngine[Any]]] = {
    "bool": BigInteger(),
    # the widest: a narrower column compares with it by its own index
    **dict.fromkeys(("int2", "int4", "int8"), BigInteger()),
    "float4": Single(),
    "float8": Double(),
    "numeric": Numeric(),
    "bytea": LargeBinary(),
    "uuid": NativeUuid(),
    "date": Written("DATE"),
    "time": Written("TIME(6)"),
    **dict.fromkeys(("timestamp", "timestamptz"), Written("DATETIME(6)")),
}


def exact_type(
    type_name: str, driver_type: str, collation: str | None = None, labels: tuple[str, ...] = ()
) -> TypeEngine[Any]:
    """The type under which a column's values come and go as they are.

    Text has no collation of its own here, so that a comparison with the column has the column's.

    Args:
        type_name: as in `ColumnFacts`.
        driver_type: likewise.
        collation: likewise.
        labels: of an enumeration or a set.
    """
    match type_name:
        case "bit":
            return Bits()
        case "enum":
            return Label(labels)
        case "set":
            return Labels(labels)
    return _BY_DRIVER.get(driver_type) or Kept(collation)


def label_literal(label: str) -> ColumnElement[str]:
    """A label as a value."""
    return literal(label, Text())
