"""The defaults that a model gives its columns in Python: `default=` and `onupdate=`.

Owns what a merge, which goes past the ORM, makes of them. Leaves out the database's own defaults: those work by
themselves.
"""

from collections.abc import Callable, Sequence

from sqlalchemy import Column, ColumnElement, TextClause
from sqlalchemy.sql.schema import (
    CallableColumnDefault,
    ColumnElementColumnDefault,
    DefaultGenerator,
    ScalarElementColumnDefault,
)

from worker.core.table_facts import ColumnFacts

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


def maker_for_none(column: Column[object], facts: ColumnFacts) -> Maker | None:
    """The model's default, where None may not be stored and the database has no default to put in its place."""
    return None if facts.nullable or facts.default is not None else value_maker(column.default)


def without_none(values: Sequence[object], make: Maker | None) -> Sequence[object]:
    """Values, each None among them replaced by what is made for it."""
    if make is None or None not in values:
        return values
    return [make() if value is None else value for value in values]
