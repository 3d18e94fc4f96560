"""How a database would find the rows of a statement, as its EXPLAIN says.

Owns what is asked and how the answer is read. Refuses to run the statement.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.support.chosen import Backend
from tests.support.own_session import backend_of
from worker.database.engine import Database

_EXPLAIN: Final[Mapping[Backend, str]] = {
    "postgresql": "EXPLAIN",
    "sqlite": "EXPLAIN QUERY PLAN",
    "mariadb": "EXPLAIN FORMAT=JSON",
}
_WHOLE_TABLE: Final[Mapping[Backend, Sequence[str]]] = {
    "postgresql": ("Seq Scan",),
    "sqlite": ("SCAN {table}",),
    "mariadb": ('"table_name": "{table}", "access_type": "ALL"', '"table_name": "{table}", "access_type": "index"'),
}
"""What says that each row of a table is looked at; of a subquery, too, that may be said."""


async def plan_of(database: Database, statement: str, values: Any) -> str:
    """What a database says of a statement, as it was sent with its values."""
    async with database.engine.connect() as connection:
        found = await connection.exec_driver_sql(f"{_EXPLAIN[backend_of(database)]} {statement}", values)
        return " ".join(" ".join(str(row[-1]) for row in found).split())


def reads_all(database: Database, plan: str, table: str) -> bool:
    """Whether a plan looks at each row of a table or of its index."""
    return any(words.format(table=table) in plan for words in _WHOLE_TABLE[backend_of(database)])
