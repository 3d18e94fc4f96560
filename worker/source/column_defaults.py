"""The Python-side default of a column: the model field's, else the SQLAlchemy column's.

Owns what counts as one. Refuses the database's own defaults: those are for the statement that writes the row.
"""

from collections.abc import Callable
from inspect import Parameter, signature

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from sqlalchemy import Column
from sqlalchemy.sql.schema import CallableColumnDefault, ScalarElementColumnDefault


def python_default(column: Column[object], field: FieldInfo | None) -> Callable[[], object] | None:
    """What makes the default value of a column, or None where Python has none.

    A default of None is no default: it says only that the model lets the database choose. A SQLAlchemy default that
    wants the statement's context cannot be made outside of one and is no default here either.

    Args:
        column: the table's column.
        field: the model's field for it; None where there is no model.
    """
    if field is not None and has_default(field):
        return lambda: field.get_default(call_default_factory=True)
    default = column.default
    if isinstance(default, ScalarElementColumnDefault):
        return lambda: default.arg
    if isinstance(default, CallableColumnDefault) and _takes_nothing(default.arg):
        # SQLAlchemy wraps a function of no arguments into one that ignores the context it is given.
        return lambda: default.arg(None)  # type: ignore[arg-type]  # no context, see above
    return None


def has_default(field: FieldInfo) -> bool:
    """Whether a model's field has a default other than None."""
    return field.default_factory is not None or (field.default is not PydanticUndefined and field.default is not None)


def _takes_nothing(function: Callable[..., object]) -> bool:
    try:
        parameters = signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    rest = {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}
    return all(parameter.default is not Parameter.empty or parameter.kind in rest for parameter in parameters)
