"""The defaults that a model gives its columns in Python: `default=` and `onupdate=`.

Owns what a merge, which goes past the ORM, makes of them. Leaves out the database's own defaults: those work by
themselves.
"""

from collections.abc import Callable

from sqlalchemy import ColumnElement, TextClause
from sqlalchemy.sql.schema import (
    CallableColumnDefault,
    ColumnElementColumnDefault,
    DefaultGenerator,
    ScalarElementColumnDefault,
)

Maker = Callable[[], object]
"""Makes one value."""

SqlExpression = ColumnElement[object] | TextClause
"""What the database evaluates, such as `func.now()` or `text("now()")`."""


def value_maker(default: DefaultGenerator | None) -> Maker | None:
    """What makes a default's values in Python.

    Args:
        default: a column's `default` or `onupdate`.

    Returns:
        None where there is no default, or the database makes it (an SQL expression, a sequence). A callable that
        looks at its statement's context gets None for it: there is no such statement here.
    """
    match default:
        case ScalarElementColumnDefault():
            return lambda: default.arg
        case CallableColumnDefault():
            return lambda: default.arg(None)  # type: ignore[arg-type]  # see above: no context to give
    return None


def sql_expression(default: DefaultGenerator | None) -> SqlExpression | None:
    """A default that is an SQL expression, such as `func.now()`; None where it is anything else."""
    return default.arg if isinstance(default, ColumnElementColumnDefault) else None
