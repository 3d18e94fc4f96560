"""Where a page of rows begins: after the last row of the one before it, in the order of some columns.

Owns the condition, written so that every database follows an index by it.
"""

from collections.abc import Sequence

from sqlalchemy import Column, ColumnElement, and_, literal, tuple_


def after(order: Sequence[Column[object]], last: Sequence[object]) -> ColumnElement[bool]:
    """Whether a row comes after another one.

    Args:
        order: columns that are never NULL and together unique, in the order of the rows.
        last: the other row's values of them.
    """
    values = [literal(value, column.type) for column, value in zip(order, last, strict=True)]
    # The first part follows from the second. It is there for those that follow no index for a row.
    return and_(order[0] >= values[0], tuple_(*order) > tuple_(*values))
