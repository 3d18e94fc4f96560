"""What MariaDB's and MySQL's planner knows: which columns lead an index, and how many rows a condition means.

Owns asking. Refuses to choose: `worker.core.walk_choice` does.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Executable, Select, Table, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

from worker.core.walk_choice import LeadingColumn
from worker.database.mysql.catalogue import indexes_of, table_row


class _Explained(Executable, ClauseElement):
    inherit_cache = False

    def __init__(self, statement: Select[int]) -> None:
        self.statement = statement


@compiles(_Explained, "mysql", "mariadb")
def _explain(element: _Explained, compiler: SQLCompiler, **options: object) -> str:
    return f"EXPLAIN FORMAT=JSON {compiler.process(element.statement, **options)}"


async def leading_columns(connection: AsyncConnection, table: Table) -> list[LeadingColumn]:
    """The columns that come first in a complete index, as far as their statistics are known.

    An index of InnoDB's goes on with the primary key, whether it says so or not. How many rows share a value is known
    where the table was analysed.

    Args:
        connection: to a MariaDB or a MySQL.
        table: a registered one.
    """
    found = await table_row(connection, table)
    indexes = await indexes_of(connection, table)
    primary = [part["column_name"] for part in indexes.get("PRIMARY", [])]
    rows = float((found or {}).get("table_rows") or 0)
    leading: dict[str, float] = {}
    for parts in indexes.values():
        if not all(_sorts(part) for part in parts[:1]) or not primary:
            continue
        first = parts[0]["column_name"]
        each = 1.0 if _goes_on(parts, primary) else _rows_per_value(parts[0], rows)
        if each is not None:
            leading[first] = min(each, leading.get(first, each))
    return [LeadingColumn(name, each) for name, each in leading.items()]


async def estimate_rows(connection: AsyncConnection, table: Table, condition: ColumnElement[bool]) -> int:
    """About how many rows of a table pass a condition, without looking at any.

    Args:
        connection: to a MariaDB or a MySQL.
        table: a registered one.
        condition: over its columns.
    """
    statement = _Explained(select(literal(1)).select_from(table).where(condition))
    plan = json.loads((await connection.execute(statement)).scalar_one())
    return int(max((_rows(node) for node in _tables(plan)), default=0))


def _sorts(part: Mapping[str, Any]) -> bool:
    """Whether an index's part has the order of its column, upwards."""
    whole = part["column_name"] is not None and part["sub_part"] is None and part["index_type"] == "BTREE"
    seen = part.get("ignored", "NO") == "NO" and part.get("is_visible", "YES") == "YES"
    return whole and seen and part["collation"] == "A"


def _goes_on(parts: Sequence[Mapping[str, Any]], primary: Sequence[str]) -> bool:
    """Whether what follows an index's first column is the primary key, all upwards."""
    first, *rest = (part["column_name"] for part in parts)
    due = [name for name in primary if name != first]
    return all(_sorts(part) for part in parts) and rest == due[: len(rest)]


def _rows_per_value(part: Mapping[str, Any], rows: float) -> float | None:
    values = part["cardinality"]
    return max(1.0, rows / values) if values else None


def _tables(node: object) -> Iterator[Mapping[str, Any]]:
    """The tables that a plan reads: nothing where the condition can hold for no row."""
    match node:
        case dict():
            for name, part in node.items():
                if name == "table" and isinstance(part, dict):
                    yield part
                yield from _tables(part)
        case list():
            for part in node:
                yield from _tables(part)


def _rows(table: Mapping[str, Any]) -> float:
    # MySQL says how many pass; MariaDB how many are read, and which share of them passes
    if "rows_produced_per_join" in table:
        return float(table["rows_produced_per_join"])
    return float(table.get("rows", 0)) * float(table.get("filtered", 100)) / 100
