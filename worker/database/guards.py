"""Guards of tables that are only ever added to: statements, however many of them a database's guard takes.

Owns how a guard is executed. What it consists of is each dialect's to compile.
"""

from typing import Final

from sqlalchemy import Connection
from sqlalchemy.sql.ddl import ExecutableDDLElement

NEXT: Final = "\n-- next statement\n"
"""Stands between two statements of a compiled guard, for a driver that takes one at a time."""


def execute_guard(connection: Connection, guard: ExecutableDDLElement) -> None:
    """Execute each statement that a guard compiles to.

    Raises:
        sqlalchemy.exc.UnsupportedCompilationError: the dialect compiles no such guard, and so must have no such table.
    """
    for statement in str(guard.compile(dialect=connection.dialect)).split(NEXT):
        connection.exec_driver_sql(statement)
