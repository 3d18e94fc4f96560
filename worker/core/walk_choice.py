"""Which column leads the way through a table: that of its primary key, or one whose index leads to the few rows meant.

```json
{"created_at": {"older_than": "90d"}, "status": {"eq": "done"}}
```

A table of a billion rows of which a thousand are old is walked along the index on `created_at`, if there is one, and
its other rows are never visited. Pure: it is told what the planner estimates.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from worker.core.table_facts import ColumnFacts
from worker.core.where import Compare, Condition, Every

BOUNDING: Final = frozenset({"eq", "in", "lt", "le", "gt", "ge", "between", "older_than"})
"""Operators that an ordered index answers by ranges, and that hold for no NULL."""

SPARSE: Final = 0.05
"""The share of the rows up to which another index pays: reading along it jumps about in the table."""

MOST_PER_VALUE: Final = 1_000
"""Rows of one value in an index that does not go on with the primary key: each span sorts those of its edge anew."""

ORDERED: Final = frozenset({"int2", "int4", "int8", "date", "timestamp", "timestamptz", "uuid"})
"""Types beside text whose every value has an exact place in a cursor; numbers with a NaN are not among them."""


@dataclass(frozen=True, slots=True)
class LeadingColumn:
    """A column that comes first in a usable index.

    Attributes:
        name: the column's name.
        rows_per_value: about how many rows share a value; 1 where the index goes on with the primary key.
    """

    name: str
    rows_per_value: float


def bounds(condition: Condition) -> dict[str, Every]:
    """By column, the comparisons that every row that is meant must pass and that bound a range of an index.

    Args:
        condition: the tree of a `where`.
    """
    found: dict[str, list[Condition]] = {}
    for compare in _conjuncts(condition):
        if compare.operator in BOUNDING:
            found.setdefault(compare.column, []).append(compare)
    return {column: Every(tuple(parts)) for column, parts in found.items()}


def may_lead(leading: LeadingColumn, facts: ColumnFacts) -> bool:
    """Whether a walk in the order of a column, its rows of one value ordered by the primary key, stays cheap."""
    exact = facts.text or facts.driver_type in ORDERED
    return exact and not facts.array and leading.rows_per_value <= MOST_PER_VALUE


def choose_lead(primary: str, estimates: Mapping[str, int]) -> str:
    """The column that leads the walk.

    Args:
        primary: the first column of the primary key.
        estimates: by column, how many rows a walk that it leads would visit; `primary` is among them.

    Returns:
        The column with the fewest rows, where that is few beside the primary key's; else `primary`.
    """
    column, rows = min(estimates.items(), key=lambda item: (item[1], item[0] != primary))
    return column if rows <= SPARSE * estimates[primary] else primary


def _conjuncts(condition: Condition) -> Iterator[Compare]:
    match condition:
        case Compare():
            yield condition
        case Every(parts):
            for part in parts:
                yield from _conjuncts(part)
        case _:
            return
