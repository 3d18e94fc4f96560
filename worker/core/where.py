"""The job parameter `where`: which rows are meant, as JSON, read into a tree of conditions.

```json
{"status": {"in": ["open", "held"]}, "seen_at": {"older_than": "90d"}, "or": [{"age": {"lt": 30}}, {"age": {"gt": 60}}]}
```

All members of one object hold together. Owns the grammar and its bounds. Refuses to know tables and to make SQL: that
is `worker.run.where`. As in SQL, a comparison with NULL holds for no row, and neither does its `not`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from worker.core.durations import parse_duration
from worker.core.errors import WhereError, choices

OPERATORS: Final = ("eq", "ne", "lt", "le", "gt", "ge", "in", "between", "like", "is_null", "older_than")
"""What may be asked of a column."""

CONNECTIVES: Final = ("and", "or", "not")
"""What joins conditions. A column of such a name cannot be asked about."""

MOST_CONDITIONS: Final = 500
"""Comparisons in one where: a statement's plan takes time that grows with them."""

MOST_CHOICES: Final = 5_000
"""Values of one `in`. More belong into a table."""

DEEPEST: Final = 20
"""Connectives inside each other."""

EXAMPLE: Final = '{"created_at": {"older_than": "90d"}}'


@dataclass(frozen=True, slots=True)
class Compare:
    """One comparison of a column.

    Attributes:
        column: its name, not yet looked up.
        operator: one of `OPERATORS`.
        value: as JSON has it: a list for `in` and `between`, a bool for `is_null`, a timedelta for `older_than`.
    """

    column: str
    operator: str
    value: object


@dataclass(frozen=True, slots=True)
class Every:
    """All of these hold; true where there are none."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Either:
    """At least one of these holds."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """This does not hold."""

    part: "Condition"


Condition = Compare | Every | Either | Not
"""A node of the tree."""

UNBOUNDED: Final = Every(())
"""No condition at all: every row."""


def parse_where(given: Mapping[str, object] | None) -> Condition:
    """Read a `where`.

    Args:
        given: a JSON object; None or an empty one means every row.

    Returns:
        The tree; `UNBOUNDED` for every row.

    Raises:
        WhereError: an unknown operator, a value of the wrong shape, or more than the bounds; the message says where.
    """
    if not given:
        return UNBOUNDED
    condition = _object(given, depth=1)
    count = sum(1 for _ in comparisons(condition))
    if count > MOST_CONDITIONS:
        raise WhereError(
            f"A where of {count:,} comparisons is too large (at most {MOST_CONDITIONS}). Use `in`, or a table"
        )
    return condition


def comparisons(condition: Condition) -> Iterator[Compare]:
    """Every comparison of a tree, in the order in which it was written."""
    match condition:
        case Compare():
            yield condition
        case Not(part):
            yield from comparisons(part)
        case Every(parts) | Either(parts):
            for part in parts:
                yield from comparisons(part)


def is_unbounded(condition: Condition) -> bool:
    """Whether a tree holds no comparison at all, so that it means every row."""
    return next(comparisons(condition), None) is None


def _object(given: object, depth: int) -> Condition:
    if not isinstance(given, Mapping) or not given:
        raise WhereError(f"A where is a JSON object with at least one member, not {given!r}; for example {EXAMPLE}")
    if depth > DEEPEST:
        raise WhereError(
            f"A where may be nested {DEEPEST} levels deep at most. Write it flatter, for example with `in`"
        )
    parts = [part for name, asked in given.items() for part in _member(str(name), asked, depth)]
    return parts[0] if len(parts) == 1 else Every(tuple(parts))


def _member(name: str, asked: object, depth: int) -> Iterator[Condition]:
    match name:
        case "and":
            yield Every(_parts(name, asked, depth))
        case "or":
            yield Either(_parts(name, asked, depth))
        case "not":
            yield Not(_object(asked, depth + 1))
        case _:
            yield from _comparisons_of(name, asked)


def _parts(name: str, asked: object, depth: int) -> tuple[Condition, ...]:
    if not isinstance(asked, list) or not asked:
        raise WhereError(f'"{name}" takes a list of conditions, not {asked!r}; for example {{"{name}": [{EXAMPLE}]}}')
    return tuple(_object(part, depth + 1) for part in asked)


def _comparisons_of(column: str, asked: object) -> Iterator[Compare]:
    if not isinstance(asked, Mapping) or not asked:
        raise WhereError(
            f"What is asked of column {column!r} is an operator with a value, not {asked!r}; for example "
            f'{{"{column}": {{"eq": 1}}}}'
        )
    for operator, value in asked.items():
        if operator not in OPERATORS:
            raise WhereError(
                f"Column {column!r}: no operator is called {operator!r}. {choices(str(operator), OPERATORS)}"
            )
        yield Compare(column, str(operator), _SHAPES.get(str(operator), _scalar)(column, str(operator), value))


def _scalar(column: str, operator: str, value: object) -> object:
    if value is None:
        raise WhereError(
            f'Column {column!r}: "{operator}" with null holds for no row. Use {{"{column}": {{"is_null": true}}}}'
        )
    if isinstance(value, Mapping):
        raise WhereError(f'Column {column!r}: "{operator}" takes one value, not an object ({value!r})')
    return value


def _choices(column: str, operator: str, value: object) -> list[object]:
    if not isinstance(value, list) or not value:
        raise WhereError(f'Column {column!r}: "{operator}" takes a list of values, for example {{"in": [1, 2, 3]}}')
    if len(value) > MOST_CHOICES:
        raise WhereError(
            f'Column {column!r}: "{operator}" has {len(value):,} values, more than {MOST_CHOICES:,}. Ask for fewer'
        )
    return [_scalar(column, operator, item) for item in value]


def _pair(column: str, operator: str, value: object) -> list[object]:
    if not isinstance(value, list) or len(value) != 2:  # noqa: PLR2004 - a lower and an upper bound
        raise WhereError(f'Column {column!r}: "{operator}" takes a list of two, both included: {{"between": [1, 9]}}')
    return [_scalar(column, operator, item) for item in value]


def _flag(column: str, operator: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise WhereError(f'Column {column!r}: "{operator}" takes true or false, not {value!r}')
    return value


def _age(column: str, operator: str, value: object) -> timedelta:
    if not isinstance(value, str):
        raise WhereError(f'Column {column!r}: "{operator}" takes a duration such as "90d", not {value!r}')
    try:
        return parse_duration(value)
    except ValueError as error:
        raise WhereError(f'Column {column!r}: "{operator}": {error}, for example "90d"') from None


_SHAPES: Final[dict[str, Callable[[str, str, object], object]]] = {
    "in": _choices,
    "between": _pair,
    "is_null": _flag,
    "older_than": _age,
}
