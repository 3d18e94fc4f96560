"""Exact decimals inside SQLite: functions that each connection is given, and how expressions over money call them.

```sql
sum(amount)              heavylift_sum(amount)
CAST(balance AS ...)     heavylift_decimal(balance, 2)
before + amount          heavylift_add(before, amount)
```

SQLite calculates by floats. An amount is text with all of its digits, written in one way only (see `Money`), and so is
what these functions return: equal amounts are equal texts. No table needs them: one with a check or an index over a
function of this program's could be written by no other.

Owns the functions, and the spelling of operators whose operands are `Money`.
"""

import sqlite3
from collections.abc import Callable, Mapping
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Final

from sqlalchemy import BinaryExpression, Cast, ColumnElement, Numeric, UnaryExpression, cast, func
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import functions, operators
from sqlalchemy.sql.compiler import SQLCompiler

from worker.core.transfers import EXACT, Transfer, plain, request_hash
from worker.database.column_types import Money

Number = str | int | float | bytes
"""What SQLite may hand over, but for NULL."""

NO_NUMBER: Final = Decimal("NaN")
"""What a text or a blob is that is no number: unequal to every amount, and no amount itself."""

_ROUNDING: Final = Context(prec=EXACT.prec)


def register(connection: sqlite3.Connection) -> None:
    """Give a connection the functions, for as long as it lasts.

    Args:
        connection: of the thread that calls.
    """
    for name, (arguments, function) in _FUNCTIONS.items():
        connection.create_function(name, arguments, function, deterministic=True)
    # the stub says that a step returns something; nobody looks at it
    connection.create_aggregate("heavylift_sum", 1, _Sum)  # type: ignore[arg-type]


def read_number(value: Number, scale: int | None = None) -> Decimal:
    """A number as it was meant: of a float, the digits that it is certain to have, and no decimals beyond its column's.

    Args:
        value: as SQLite keeps it.
        scale: how many decimals the column declares; None where it declares none.
    """
    if isinstance(value, int):
        return Decimal(value)
    try:
        found = Decimal(f"{value:.15g}" if isinstance(value, float) else str(value))
    except InvalidOperation:
        return NO_NUMBER
    if scale is None or not isinstance(value, float) or not found.is_finite():
        return found
    # where an application adds up floats, 0.1 and 0.2 are 0.3 to its model, too
    return _ROUNDING.quantize(found, Decimal(1).scaleb(-scale))


def written(amount: Decimal) -> str:
    """An amount in its one form; zero has no sign."""
    if not amount.is_finite():
        return str(NO_NUMBER)
    return plain(amount) if amount else "0"


def _decimal(value: Number | None, scale: int | None) -> str | None:
    return None if value is None else written(read_number(value, scale))


def _add(left: Number | None, right: Number | None) -> str | None:
    return None if left is None or right is None else written(EXACT.add(read_number(left), read_number(right)))


def _subtract(left: Number | None, right: Number | None) -> str | None:
    return None if left is None or right is None else written(EXACT.subtract(read_number(left), read_number(right)))


def _negate(value: Number | None) -> str | None:
    return None if value is None else written(EXACT.minus(read_number(value)))


def _compare(left: Number | None, right: Number | None) -> int | None:
    """Less than, equal to or more than 0, as the left one is beside the right one; of no numbers, NULL."""
    if left is None or right is None:
        return None
    first, second = read_number(left), read_number(right)
    return None if first.is_nan() or second.is_nan() else (first > second) - (first < second)


def _hash(table: str, column: str, source: str, target: str, amount: Number, reason: str) -> str:
    return request_hash(table, column, Transfer("", source, target, read_number(amount), reason))


class _Sum:
    """An aggregate: the exact sum of what is no NULL, and NULL of nothing."""

    def __init__(self) -> None:
        self._total: Decimal | None = None

    def step(self, value: Number | None) -> None:
        """One more."""
        if value is not None:
            self._total = EXACT.add(self._total or Decimal(0), read_number(value))

    def finalize(self) -> str | None:
        """The sum."""
        return None if self._total is None else written(self._total)


_FUNCTIONS: Final[Mapping[str, tuple[int, Callable[..., str | int | None]]]] = {
    "heavylift_decimal": (2, _decimal),
    "heavylift_add": (2, _add),
    "heavylift_subtract": (2, _subtract),
    "heavylift_negate": (1, _negate),
    "heavylift_compare": (2, _compare),
    "heavylift_request_hash": (6, _hash),
}

_CALLS: Final[Mapping[object, str]] = {operators.add: "heavylift_add", operators.sub: "heavylift_subtract"}
_EQUALITIES: Final = frozenset({operators.eq, operators.ne, operators.is_distinct_from, operators.is_not_distinct_from})
_ORDERS: Final = frozenset({operators.lt, operators.le, operators.gt, operators.ge})


@compiles(BinaryExpression, "sqlite")
def _binary(element: BinaryExpression[Any], compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's
    sides: tuple[ColumnElement[Any], ColumnElement[Any]] = (element.left, element.right)
    if not any(isinstance(side.type, Money) for side in sides):
        return str(compiler.visit_binary(element, **options))  # type: ignore[no-untyped-call]  # SQLAlchemy has not typed its compilers
    made: ColumnElement[Any] | None = None
    if element.operator in _CALLS:
        made = getattr(func, _CALLS[element.operator])(*sides, type_=Money())
    elif element.operator in _ORDERS:
        made = element.operator(func.heavylift_compare(*sides), 0)
    elif element.operator in _EQUALITIES and not all(isinstance(side.type, Money) for side in sides):
        # equal amounts are equal texts, and a number beside one is no text yet
        made = element.operator(*(side if isinstance(side.type, Money) else cast(side, Money()) for side in sides))
    if made is None:
        return str(compiler.visit_binary(element, **options))  # type: ignore[no-untyped-call]  # likewise
    return str(compiler.process(made, **options))


@compiles(UnaryExpression, "sqlite")
def _unary(element: UnaryExpression[Any], compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's
    if isinstance(element.type, Money) and element.operator is operators.neg:
        return str(compiler.process(func.heavylift_negate(element.element, type_=Money()), **options))
    return str(compiler.visit_unary(element, **options))  # type: ignore[no-untyped-call]  # likewise


@compiles(Cast, "sqlite")
def _cast(element: Cast[Any], compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's
    if not isinstance(element.type, Money):
        return str(compiler.visit_cast(element, **options))  # type: ignore[no-untyped-call]  # likewise
    given = element.clause.type
    scale = given.scale if isinstance(given, Numeric) else None
    return f"heavylift_decimal({compiler.process(element.clause, **options)}, {'NULL' if scale is None else scale})"


@compiles(functions.sum, "sqlite")
def _sum(element: functions.sum[Any], compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's
    if isinstance(element.type, Money):
        return str(compiler.process(func.heavylift_sum(*element.clauses, type_=Money()), **options))
    return str(compiler.visit_function(element, **options))
