"""What a changed row gets besides the values given: the model's `onupdate=`.

Owns both halves of it: the parameters that carry what Python makes, and the expressions that set it. Refuses to know
when a row counts as changed: the statement does.
"""

from typing import Any

from sqlalchemy import Column, ColumnElement, Dialect, Text, bindparam

from worker.database.model_defaults import SqlExpression, value_maker
from worker.database.mysql.sent_rows import converted
from worker.database.mysql.sent_values import column_encoder, in_json, sendable
from worker.database.row_shape import RowShape


class Touches:
    """Makes the parameters for the touched columns of a shape, anew for each statement.

    Args:
        shape: which columns are touched.
        dialect: of the engine that will send them.
    """

    def __init__(self, shape: RowShape, dialect: Dialect) -> None:
        self._made = [
            (column_encoder(column, shape.column_facts(column), dialect), make)
            for column in shape.touched
            if (make := value_maker(column.onupdate)) is not None
        ]

    def parameters(self) -> dict[str, object]:
        """One value a touched column: all rows that a statement changes get the same."""
        return {_name(at): in_json(sendable(encode([make()])))[0] for at, (encode, make) in enumerate(self._made)}


def touching(shape: RowShape, dialect: Dialect) -> dict[Column[object], ColumnElement[Any] | SqlExpression]:
    """What an UPDATE sets besides, by column."""
    touched = {
        column: converted(bindparam(_name(at), type_=Text()), column, shape.column_facts(column), dialect)
        for at, column in enumerate(shape.touched)
    }
    return {**touched, **shape.retouched}


def _name(position: int) -> str:
    return f"heavylift_touch_{position}"
