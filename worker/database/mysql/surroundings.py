"""What stands around a MariaDB or MySQL table and has a say when its rows change: the reader of `Surroundings`.

Owns the catalogue queries. Refuses to judge: `worker.core.preflight` does. What privileges this user has is not looked
for: roles and wildcards grant them, too, and the first chunk says what is missing.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.errors import RequestError
from worker.core.preflight import Change, Reference, Surroundings, Trigger
from worker.database.mysql.catalogue import table_row

HOME: Final = text("SELECT COALESCE(:schema, DATABASE())")

# A foreign key's referring columns have an index: InnoDB makes one where there is none.
REFERENCES: Final = text("""
SELECT k.constraint_name AS name, k.table_schema AS referring_schema, k.table_name AS referring_table,
       k.referenced_table_schema AS target_schema, k.referenced_table_name AS target_table,
       k.column_name AS referring_column, k.referenced_column_name AS target_column,
       r.delete_rule AS on_delete, r.update_rule AS on_update, t.table_rows AS row_count
FROM information_schema.key_column_usage AS k
JOIN information_schema.referential_constraints AS r
    ON r.constraint_schema = k.constraint_schema AND r.constraint_name = k.constraint_name
   AND r.table_name = k.table_name
LEFT JOIN information_schema.tables AS t ON t.table_schema = k.table_schema AND t.table_name = k.table_name
WHERE k.referenced_table_schema = :schema AND k.referenced_table_name = :table
ORDER BY k.table_schema, k.table_name, k.constraint_name, k.ordinal_position
""")

TRIGGERS: Final = text("""
SELECT trigger_name AS name FROM information_schema.triggers
WHERE event_object_schema = :schema AND event_object_table = :table AND event_manipulation = :event
ORDER BY trigger_name
""")

Place = tuple[str, str]
"""A table's database and its name."""


async def read_surroundings(connection: AsyncConnection, table: Table, change: Change) -> Surroundings:
    """What stands around a registered table, in four round trips and one more for each table that a cascade reaches.

    Args:
        connection: to a MariaDB or a MySQL.
        table: names the table.
        change: what is to be done to its rows.

    Raises:
        RequestError: the database has no such table.
    """
    found = await table_row(connection, table)
    if found is None:
        raise RequestError(f"Table {table.fullname!r} is registered, but this database has none of that name")
    home = (await connection.execute(HOME, {"schema": table.schema})).scalar_one()
    asked = {"schema": home, "table": table.name, "event": change.upper()}
    triggers = (await connection.execute(TRIGGERS, asked)).scalars()
    return Surroundings(
        table=table.fullname,
        references=await _references(connection, home, table.name, cascading=change == "delete"),
        triggers=tuple(Trigger(name, each_row=True) for name in triggers),
        partitioned=bool(found["partitioned"]),
    )


async def _references(connection: AsyncConnection, home: str, name: str, *, cascading: bool) -> tuple[Reference, ...]:
    """The foreign keys that refer to a table, and to those that lose rows with it."""
    references: dict[tuple[Place, str], Reference] = {}
    losing: list[Place] = [(home, name)]
    for schema, table in losing:
        found = await connection.execute(REFERENCES, {"schema": schema, "table": table})
        for row in found.mappings():
            referring = (row["referring_schema"], row["referring_table"])
            known = references.get((referring, row["name"]))
            references[referring, row["name"]] = _reference(dict(row), home, known)
            if cascading and row["on_delete"] == "CASCADE" and referring not in losing:
                losing.append(referring)
    return tuple(references.values())


def _reference(row: Mapping[str, Any], home: str, known: Reference | None) -> Reference:
    """A foreign key with one more of its columns."""
    columns, targets = (known.columns, known.targets) if known else ((), ())
    return Reference(
        name=row["name"],
        table=_said(row["referring_schema"], row["referring_table"], home),
        columns=(*columns, row["referring_column"]),
        target=_said(row["target_schema"], row["target_table"], home),
        targets=(*targets, row["target_column"]),
        on_delete=row["on_delete"].lower(),
        on_update=row["on_update"].lower(),
        indexed=True,
        rows=int(row["row_count"] or 0),
        remedy="",
    )


def _said(schema: str, table: str, home: str) -> str:
    return table if schema == home else f"{schema}.{table}"
