"""What Python type the values of a column must have: the model's annotation, or what the table's type implies.

Owns finding the annotation and building its pydantic adapter. Refuses to know rows, NULLs or the database's limits.
"""

import datetime as dt
import operator
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from types import GenericAlias, NoneType, UnionType
from typing import Annotated, Final, Literal, Optional, Union, get_args, get_origin
from uuid import UUID

from pydantic import AllowInfNan, ConfigDict, Field, Json, TypeAdapter
from pydantic.fields import FieldInfo
from sqlalchemy import ARRAY, JSON, Column, Interval, Table, inspect
from sqlalchemy import Enum as EnumType
from sqlalchemy.types import TypeDecorator, TypeEngine
from sqlmodel import SQLModel
from typing_extensions import TypeAliasType

from worker.core.table_facts import ColumnFacts

_PLAIN: Final = frozenset(
    {bool, int, float, Decimal, str, bytes, dt.date, dt.datetime, dt.time, dt.timedelta, UUID},
)

# Unlike pydantic's own default, what a numeric column holds may be NaN.
_DECIMAL: Final = Annotated[Decimal, AllowInfNan()]
# Its items are the database's to judge: it alone knows its own notation.
_ARRAY_LITERAL: Final = Annotated[str, Field(pattern=r"^\{")]
# What the driver takes for a built-in type. What it takes in written form is text to it.
_DRIVER_TYPES: Final[Mapping[str, object]] = {
    "text": str,
    "bool": bool,
    **dict.fromkeys(("int2", "int4", "int8", "oid"), int),
    **dict.fromkeys(("float4", "float8"), float),
    "numeric": _DECIMAL,
    "bytea": bytes,
    "uuid": UUID,
    "date": dt.date,
    **dict.fromkeys(("timestamp", "timestamptz"), dt.datetime),
    **dict.fromkeys(("time", "timetz"), dt.time),
    "interval": dt.timedelta,
    **dict.fromkeys(("inet", "cidr"), str),
}


class Written(Enum):
    """How a value stands in the source."""

    AS_IS = "as is"
    JSON = "JSON text"
    ARRAY = "a JSON list, or the database's own notation such as {1,2}"


def model_fields(model: type[SQLModel], table: Table) -> dict[str, tuple[str, FieldInfo]]:
    """The model's attributes by the name of the column that stores each.

    Args:
        model: a mapped SQLModel class.
        table: the table whose columns are meant (a model may be mapped to several).

    Returns:
        By column name: the attribute's name and its pydantic field. Columns without a field are left out.
    """
    found: dict[str, tuple[str, FieldInfo]] = {}
    for attribute in inspect(model).column_attrs:
        field = model.model_fields.get(attribute.key)
        for column in attribute.columns:
            if field is not None and isinstance(column, Column) and column.table is table:
                found[column.name] = (attribute.key, field)
    return found


def annotation_of(column: Column[object], facts: ColumnFacts, field: FieldInfo | None) -> object:
    """The type of a column's values other than NULL, with its constraints, as pydantic reads types.

    Args:
        column: the table's column.
        facts: the same column as the database declares it.
        field: the model's field for it; None where there is no model.

    Returns:
        The field's annotation less None, with its metadata; without a field the type that the column's implies, or
        the one that the driver takes for it, or `object`, which admits anything, where that is not known either.
    """
    if field is None:
        implied = implied_type(column.type)
        # A domain is no type that SQLAlchemy knows; what is beneath it, the catalogue says.
        known = isinstance(undecorated(column.type), JSON) or facts.array or implied is not object
        return implied if known else _DRIVER_TYPES.get(facts.driver_type, object)
    required = _without_none(field.annotation)
    return operator.getitem(Annotated, (required, *field.metadata)) if field.metadata else required


def adapter_of(
    annotation: object, *, nullable: bool, written: Written, config: ConfigDict | None
) -> TypeAdapter[list[object]]:
    """The pydantic adapter of a whole column: a list of the annotation's values.

    Args:
        annotation: as `annotation_of` returns it.
        nullable: whether None passes.
        written: how values that are no plain text stand in a source of text.
        config: the model's configuration (strictness, stripping of white space, ...).
    """
    # Metadata may be unhashable (SQLModel's holds columns), which a Union does not take; an alias always is.
    item: object = TypeAliasType("Value", annotation)
    if written is not Written.AS_IS:
        item = operator.getitem(Json, item)
    if written is Written.ARRAY:
        item = operator.getitem(Union, (item, _ARRAY_LITERAL))
    if nullable:
        item = operator.getitem(Optional, item)
    # mypy knows type forms only as they stand in the source, and this one is made at run time
    return TypeAdapter(GenericAlias(list, (item,)), config=config)  # type: ignore[arg-type]


def written_in_text(column: Column[object], facts: ColumnFacts) -> Written:
    """How the column's values stand in a source of text, such as CSV."""
    if facts.array or isinstance(undecorated(column.type), ARRAY):
        return Written.ARRAY
    return Written.JSON if isinstance(undecorated(column.type), JSON) else Written.AS_IS


def takes_text(annotation: object) -> bool:
    """Whether an empty string can be a value of the annotation: it is `str`, or not known."""
    base = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    return base is object or (isinstance(base, type) and issubclass(base, str) and not issubclass(base, Enum))


def _without_none(annotation: object) -> object:
    if get_origin(annotation) not in {Union, UnionType}:
        return annotation
    members = tuple(member for member in get_args(annotation) if member is not NoneType)
    return operator.getitem(Union, members)


def undecorated(type_: TypeEngine[object]) -> TypeEngine[object]:
    """The type beneath any type decorators."""
    # Interval is one over DateTime, for databases that have no such type: its values are durations all the same.
    while isinstance(type_, TypeDecorator) and not isinstance(type_, Interval):
        type_ = type_.impl_instance
    return type_


def implied_type(type_: TypeEngine[object]) -> object:
    """The Python type that a column's SQLAlchemy type implies; `object`, which admits anything, where there is none."""
    plain = undecorated(type_)
    if isinstance(plain, JSON):
        return object
    if isinstance(plain, ARRAY):
        item: object = implied_type(plain.item_type)
        for _ in range(plain.dimensions or 1):
            item = GenericAlias(list, (operator.getitem(Optional, item),))
        return item
    if isinstance(plain, EnumType):
        return plain.enum_class or (operator.getitem(Literal, tuple(plain.enums)) if plain.enums else object)
    try:
        python_type = plain.python_type
    except NotImplementedError:
        # A type that SQLAlchemy has no Python type for (a network address, a range): the database judges the value.
        return object
    if python_type is Decimal:
        return _DECIMAL
    return python_type if python_type in _PLAIN else object
