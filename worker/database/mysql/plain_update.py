"""UPDATE of one table's rows, or of those that a join finds: exactly the columns that are named, and no other.

Owns the construct. SQLAlchemy's own sets a model's `onupdate` columns by itself, and each column of a join repeatedly.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Dialect, Executable, FromClause
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

from worker.database.model_defaults import SqlExpression


class PlainUpdate(Executable, ClauseElement):
    """An UPDATE.

    Args:
        target: the table, or a join with it.
        values: what is set, by column.
        condition: which rows.
    """

    inherit_cache = False

    def __init__(
        self,
        target: FromClause,
        values: Mapping[Column[object], ColumnElement[Any] | SqlExpression],
        condition: ColumnElement[bool],
    ) -> None:
        self.target = target
        self.values = values
        self.condition = condition


@compiles(PlainUpdate, "mysql", "mariadb")
def _plain_update(element: PlainUpdate, compiler: SQLCompiler, **options: object) -> str:
    target = compiler.process(element.target, asfrom=True, **options)
    values = ", ".join(
        f"{compiler.process(column, **options)} = {compiler.process(value, **options)}"
        for column, value in element.values.items()
    )
    condition = compiler.process(element.condition, **options)
    return f"UPDATE {target} SET {values} WHERE {condition}"  # noqa: S608 - of the compiler's own making


class CompiledUpdate:
    """An UPDATE whose text is made once.

    Args:
        statement: whose parameters are text.
        dialect: of the engine that will send it.
    """

    def __init__(self, statement: PlainUpdate, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)  # noqa: S101 - what a statement of SQL is compiled by
        self._compiled = compiled
        self._names: Sequence[str] = compiled.positiontup or ()

    async def execute(
        self, connection: AsyncConnection, parameters: Mapping[str, object]
    ) -> CursorResult[tuple[Any, ...]]:
        """Send it."""
        values = self._compiled.construct_params(dict(parameters))
        return await connection.exec_driver_sql(str(self._compiled), tuple(values[name] for name in self._names))
