"""The job parameter `ids`: which rows are meant, each by its primary key, as JSON.

```json
[1, 2, 3]
[{"region": "eu", "number": 7}, ["us", 1]]
```

Owns the forms, their bound and their validation. Refuses to look for the rows.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import JsonValue

from worker import (
    Batch,
    JobContext,
    ParametersError,
    RegisteredTable,
    RowValidator,
    TableFacts,
    primary_walk,
)

MOST_IDS: Final = 10_000
"""Ids in one list: a run's parameters are read and kept as a whole. More rows than that are better named by `where`."""

SHOWN_FAULTS: Final = 3
"""How many faulty ids an error message shows."""


def check_ids(ids: Sequence[JsonValue], key: Sequence[str]) -> None:
    """Refuse at once what cannot name rows.

    Args:
        ids: as given.
        key: the names of the primary key's columns.

    Raises:
        ParametersError: there are none, or too many, or one is not of the key's form.
    """
    if not ids:
        raise ParametersError("`ids` names no row. Give at least one primary key, for example [1, 2, 3]")
    if len(ids) > MOST_IDS:
        raise ParametersError(
            f"`ids` names {len(ids):,} rows, more than {MOST_IDS:,}. Say which rows are meant with `where` instead, "
            'for example {"team_id": {"eq": 1}}, or in several runs'
        )
    for index, given in enumerate(ids, start=1):
        _values(given, key, index)


async def read_ids(
    ctx: JobContext, target: RegisteredTable, facts: TableFacts, ids: Sequence[JsonValue]
) -> list[tuple[object, ...]]:
    """The keys that some ids are, each once, in an order that is the same on every attempt.

    Args:
        ctx: the run.
        target: the table.
        facts: what the database says of it.
        ids: as given.

    Returns:
        Keys as the driver takes them.

    Raises:
        ParametersError: one does not fit the key's columns.
    """
    walk = primary_walk(target.table, facts)
    names = tuple(column.name for column in walk.key)
    rows = [_values(given, names, index) for index, given in enumerate(ids, start=1)]
    # without the model: what names a row need not be what a new row might be called
    validator = RowValidator(
        target.table, None, facts, source_columns=names, key=names, empty_is_text=False, inserts=False
    )
    judged = validator.validate(Batch(rows, list(range(1, len(rows) + 1)), [], {}, last=True, fraction=None))
    if judged.faults:
        shown = "; ".join(f"number {fault.position}: {fault.reason}" for fault in judged.faults[:SHOWN_FAULTS])
        more = f" and {len(judged.faults) - SHOWN_FAULTS:,} more" if len(judged.faults) > SHOWN_FAULTS else ""
        raise ParametersError(f"`ids` do not fit the primary key of table {target.name!r}: {shown}{more}")
    sent = [
        ctx.tools.encode(column, facts.column(column.name), values)
        for column, values in zip(walk.key, judged.values, strict=True)
    ]
    # any order will do that is always the same: the database sorts each chunk by its own rules
    return sorted(dict.fromkeys(zip(*sent, strict=True)), key=repr)


def _values(given: JsonValue, key: Sequence[str], index: int) -> tuple[object, ...]:
    match given:
        case Mapping() if set(given) == set(key):
            return tuple(given[name] for name in key)
        case list() if len(given) == len(key) and len(key) > 1:
            return tuple(given)
        case str() | int() | float() if len(key) == 1:
            return (given,)
    example = "1" if len(key) == 1 else "{" + ", ".join(f'"{name}": ...' for name in key) + "}"
    raise ParametersError(
        f"Number {index} of `ids` is {given!r}, which is no value of the primary key ({', '.join(key)}); for example "
        f"{example}"
    )
