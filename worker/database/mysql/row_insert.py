"""INSERT of many rows: of new keys alone, or in one pass over known and new keys, in their order.

```sql
INSERT INTO t (id, x) VALUES (1, 'a'), (2, 'b'), ... ON DUPLICATE KEY UPDATE id = (SELECT t.id UNION ALL SELECT t.id)
INSERT INTO t (id, x) VALUES (IF(@heavylift_row := @heavylift_row + 1, 1, NULL), 'a'), ...
ON DUPLICATE KEY UPDATE id = CASE WHEN <the keys are equal> AND <note that the row was there> THEN t.id
                             ELSE (SELECT t.id UNION ALL SELECT t.id) END
```

A plain INSERT of a key that another session has just inserted ends with a shared lock on it, on which several may
sit, each waiting for the others to let go. The first of these ends with a lock of its own: its SELECT fails. The second
inserts what is missing, and locks what is there, as it is: each key in its turn, so that no two sessions wait for each
other in a circle. Any unique index may make a row a duplicate: where it was not the key's, the row in question is
another one, and it fails like the first.

Literals and not INSERT ... SELECT: that would hold the table's lock on AUTO_INCREMENT, and every other session's
inserts up. Owns these statements. Refuses to change rows that are there.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Dialect, bindparam, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import BindParameter, ClauseElement
from sqlalchemy.types import NullType

from worker.core.table_facts import ColumnFacts
from worker.database.merge_shape import MergeShape
from worker.database.mysql.sent_rows import Rows
from worker.database.mysql.type_words import AUTO_INCREMENT

LOCKED_DUPLICATE: Final = 1242
"""ER_SUBQUERY_NO_1_ROW, by which an INSERT ends here that met a duplicate, and holds the lock of it for itself."""

DUPLICATE: Final = 1062
"""ER_DUP_ENTRY."""

MOST_COUNTED: Final = 500
"""Rows that are counted in one statement: MariaDB takes time that grows with the square of how often it is to count."""

_BEGIN: Final = text("SET @heavylift_row = 0, @heavylift_met = CAST(REPEAT('0', :rows) AS BINARY)")
_MET: Final = text("SELECT CAST(@heavylift_met AS BINARY)")
_WAS_THERE: Final = ord("1")
_VALUE: Final = object()

Bind = Callable[[BindParameter[Any]], ClauseElement | None]


class RowInsert:
    """Inserts rows of one shape: values of its `sent` columns, and what its model computes.

    Args:
        shape: which columns.
        dialect: of the engine that will send them.
    """

    def __init__(self, shape: MergeShape, dialect: Dialect) -> None:
        rows = shape.rows
        preparer = dialect.identifier_preparer
        table = preparer.format_table(rows.table)
        columns = [*shape.sent, *shape.computed]
        names = ", ".join(preparer.quote(column.name) for column in columns)
        self._head = f"INSERT INTO {table} ({names}) VALUES "  # noqa: S608 - quoted names of registered tables
        cells = [_cell(column.type.dialect_impl(dialect).bind_expression, dialect) for column in shape.sent]
        self._cells = [cell for cell, _ in cells]
        self._places = [values for _, values in cells]
        self._simple = all(values == [_VALUE] for values in self._places)
        self._made = [_compiled(expression, dialect) for expression in shape.computed.values()]
        self._defaulted = [
            at
            for at, column in enumerate(shape.sent)
            if column not in rows.key and _has_default(rows.column_facts(column))
        ]
        self._first_of_key = shape.sent.index(rows.key[0])
        key = [preparer.quote(column.name) for column in rows.key]
        mine = " AND ".join(f"{table}.{name} <=> VALUES({name})" for name in key)
        noted = "(@heavylift_met := INSERT(@heavylift_met, @heavylift_row, 1, '1')) IS NOT NULL"
        this = f"{table}.{key[0]}"
        fails = f"(SELECT {this} UNION ALL SELECT {this})"
        update = f" ON DUPLICATE KEY UPDATE {key[0]} = "
        self._or_fail = update + fails
        self._or_lock = f"{update}CASE WHEN {mine} AND {noted} THEN {this} ELSE {fails} END"

    async def plainly(self, connection: AsyncConnection, rows: Rows) -> None:
        """Insert rows in their order.

        Raises:
            sqlalchemy.exc.DBAPIError: the database refused them, all of them; the transaction goes on as it was.
        """
        await self._send(connection, rows, self._cells, "")

    async def or_fail(self, connection: AsyncConnection, rows: Rows) -> None:
        """Insert rows in their order, or none of them where one is a duplicate, which is locked then.

        Raises:
            sqlalchemy.exc.DBAPIError: as above; `LOCKED_DUPLICATE` for a duplicate.
        """
        await self._send(connection, rows, self._cells, self._or_fail)

    async def in_one_pass(self, connection: AsyncConnection, sections: Sequence[Rows]) -> list[bool]:
        """Insert rows whose keys are new, and lock the others as they are, all in their order.

        Args:
            connection: in a transaction of the caller's, and in a savepoint if there are several sections.
            sections: of at most `MOST_COUNTED` rows each.

        Returns:
            Of each row, whether it was there.

        Raises:
            sqlalchemy.exc.DBAPIError: the database refused a section, all of it; see `LOCKED_DUPLICATE`.
        """
        cells = list(self._cells)
        first = cells[self._first_of_key]
        cells[self._first_of_key] = f"IF(@heavylift_row := @heavylift_row + 1, {first}, NULL)"
        await connection.execute(_BEGIN, {"rows": sum(map(len, sections))})
        for rows in sections:
            await self._send(connection, rows, cells, self._or_lock)
        met: bytes = (await connection.execute(_MET)).scalar_one()
        return [byte == _WAS_THERE for byte in met]

    async def _send(self, connection: AsyncConnection, rows: Rows, cells: Sequence[str], tail: str) -> None:
        texts, parameters = self._rows(rows, cells)
        await connection.exec_driver_sql(f"{self._head}{', '.join(texts)}{tail}", tuple(parameters))

    def _rows(self, rows: Rows, cells: Sequence[str]) -> tuple[list[str], list[object]]:
        made = [cell for cell, _ in self._made]
        constants = [value for _, values in self._made for value in values]
        usual = _row([*cells, *made])
        texts: list[str] = []
        parameters: list[object] = []
        for row in rows:
            lacking = {at for at in self._defaulted if row[at] is None}
            if lacking:
                texts.append(_row([*_with_defaults(cells, lacking), *made]))
            else:
                texts.append(usual)
            parameters += row if self._simple and not lacking else self._in_places(row, lacking)
            parameters += constants
        return texts, parameters

    def _in_places(self, row: Sequence[object], lacking: set[int]) -> Iterator[object]:
        for at, value in enumerate(row):
            if at not in lacking:
                yield from (value if place is _VALUE else place for place in self._places[at])


def number_of(error: DBAPIError) -> int:
    """The server's number of an error; 0 where it has none."""
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else 0


def _has_default(facts: ColumnFacts) -> bool:
    """Whether None is to be the database's default. A numbered column takes NULL for that."""
    return not facts.nullable and facts.default is not None and facts.default != AUTO_INCREMENT


def _row(cells: Sequence[str]) -> str:
    return f"({', '.join(cells)})"


def _with_defaults(cells: Sequence[str], lacking: set[int]) -> Iterator[str]:
    yield from ("DEFAULT" if at in lacking else cell for at, cell in enumerate(cells))


def _cell(bind_expression: Bind, dialect: Dialect) -> tuple[str, list[object]]:
    """What stands for a value, and what goes into its places: the value, or what its type puts beside it."""
    expression = bind_expression(bindparam("value", _VALUE, type_=NullType()))
    return ("%s", [_VALUE]) if expression is None else _compiled(expression, dialect)


def _compiled(expression: ClauseElement, dialect: Dialect) -> tuple[str, list[object]]:
    """An expression as the driver takes it, and the values in it."""
    compiled = expression.compile(dialect=dialect)
    assert isinstance(compiled, SQLCompiler)  # noqa: S101 - what an expression of SQL is compiled by
    parameters = compiled.construct_params()
    return str(compiled), [parameters[name] for name in compiled.positiontup or ()]
