"""A session of a test's own, past the worker: statements that it commits, and what a query finds, on any database."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Executable, Select, Table, insert, text

from tests.support.chosen import Backend
from worker.database.engine import Database

Rows = list[tuple[Any, ...]]
Statement = str | Executable


async def execute(database: Database, *statements: Statement) -> None:
    """Run statements in one transaction."""
    async with database.engine.begin() as connection:
        for statement in statements:
            await connection.execute(written(statement))


async def analyze(database: Database, table: str) -> None:
    """Have the database look at a table, for its planner."""
    await execute(database, f"ANALYZE {'TABLE ' if backend_of(database) == 'mariadb' else ''}{table}")


def backend_of(database: Database) -> Backend:
    """Which database it is."""
    name = database.engine.dialect.name
    return "mariadb" if name == "mysql" else cast("Backend", name)


async def put(database: Database, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert rows into a table."""
    async with database.engine.begin() as connection:
        await connection.execute(insert(table), rows)


async def rows_of(database: Database, query: "str | Select[*tuple[Any, ...]]") -> Rows:
    """The rows of a query, as they are committed: whoever writes meanwhile is not waited for."""
    async with database.reading() as connection:
        return [tuple(row) for row in await connection.execute(written(query))]


async def value_of(database: Database, query: "str | Select[*tuple[Any, ...]]") -> Any:
    """The only value of a query."""
    ((value,),) = await rows_of(database, query)
    return value


def written(statement: Statement) -> Executable:
    """A statement, whether it came as text or not."""
    return text(statement) if isinstance(statement, str) else statement
