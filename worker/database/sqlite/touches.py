"""What a changed row gets besides the values given: the model's `onupdate=`.

Owns both halves of it: the parameters that carry what Python makes, and the expressions that set it. Refuses to know
when a row counts as changed: the statement does.
"""

from collections.abc import Mapping

from sqlalchemy import Column, ColumnElement, Dialect, bindparam

from worker.database.model_defaults import SqlExpression, value_maker
from worker.database.row_shape import RowShape
from worker.database.sqlite.exact_types import Stored, affinity_of
from worker.database.sqlite.sent_values import column_encoder


class Touches:
    """The touched columns of a shape.

    Attributes:
        expressions: what an UPDATE sets besides, by column.

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
        touched: dict[Column[object], ColumnElement[object] | SqlExpression] = {
            column: bindparam(_name(at), type_=Stored(affinity_of(shape.column_facts(column))))
            for at, column in enumerate(shape.touched)
        }
        self.expressions: Mapping[Column[object], ColumnElement[object] | SqlExpression] = touched | dict(
            shape.retouched
        )

    def parameters(self) -> dict[str, object]:
        """One value a touched column, made anew: all rows that a statement changes get the same."""
        return {_name(at): encode([make()])[0] for at, (encode, make) in enumerate(self._made)}


def _name(position: int) -> str:
    return f"t{position}"
