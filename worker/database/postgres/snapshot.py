"""Long reads on PostgreSQL: a snapshot that only reads, and no long wait before the first row.

Owns these two and their reasons. Refuses to read any row.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sqlalchemy import Executable, Select, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

OPTIONS: Final[dict[str, object]] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
"""What SQLAlchemy begins the transaction with, and takes back when the connection returns to its pool."""

MOST_SORTED: Final = 1_000_000
"""Rows that may be sorted before the first one is there: some seconds' work."""

_NO_SORT: Final = text("SELECT set_config('enable_sort', 'off', true)")


class _Explained(Executable, ClauseElement):
    inherit_cache = False

    def __init__(self, statement: "Select[*tuple[Any, ...]]") -> None:
        self.statement = statement


@compiles(_Explained, "postgresql")
def _explain(element: _Explained, compiler: SQLCompiler, **options: object) -> str:
    return f"EXPLAIN (FORMAT JSON) {compiler.process(element.statement, **options)}"


async def avoid_long_sort(
    connection: AsyncConnection, statement: "Select[*tuple[Any, ...]]", most: int = MOST_SORTED
) -> None:
    """See that rows of a large table come by the index of their key.

    For all rows of a table the planner may find it cheaper to read and sort it, which it is in sum. But it would
    outlast the timeout of the first fetch, time and again. Where it plans to sort few rows, it is right.

    Args:
        connection: in the transaction in which the statement is going to run; the choice ends with it.
        statement: ordered by the key.
        most: rows that may be sorted.
    """
    ((plan,),) = (await connection.execute(_Explained(statement))).scalars()
    if any(node["Node Type"] == "Sort" and node["Plan Rows"] > most for node in _nodes(plan["Plan"])):
        await connection.execute(_NO_SORT)


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)
