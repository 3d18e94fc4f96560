"""What PostgreSQL's planner knows: which columns lead an index, and how many rows a condition means.

Owns asking. Refuses to choose: `worker.core.walk_choice` does.
"""

from sqlalchemy import ColumnElement, Executable, Select, Table, literal, select, text
from sqlalchemy.dialects.postgresql.base import PGIdentifierPreparer
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

from worker.core.walk_choice import LeadingColumn

# Only an index whose order is the column's own serves ORDER BY: the default operator class, the column's collation.
# One that goes on with the primary key, all in one direction, needs no sorting at all. How many rows share a value is
# known where the table was analysed; a negative figure is a share of the rows.
LEADING = text("""
SELECT CAST(attribute.attname AS text) AS name,
       min(CASE WHEN whole.keyed THEN 1
                WHEN seen.n_distinct > 0 THEN relation.reltuples / seen.n_distinct
                WHEN seen.n_distinct < 0 THEN -1 / seen.n_distinct END) AS rows_per_value
FROM pg_catalog.pg_index AS key
JOIN pg_catalog.pg_class AS relation ON relation.oid = key.indrelid
JOIN pg_catalog.pg_class AS index ON index.oid = key.indexrelid
JOIN pg_catalog.pg_am AS method ON method.oid = index.relam AND method.amname = 'btree'
JOIN pg_catalog.pg_opclass AS class ON class.oid = key.indclass[0] AND class.opcdefault
JOIN pg_catalog.pg_attribute AS attribute
    ON attribute.attrelid = key.indrelid AND attribute.attnum = key.indkey[0] AND attribute.attnum > 0
    AND attribute.attcollation = key.indcollation[0]
JOIN pg_catalog.pg_index AS main ON main.indrelid = key.indrelid AND main.indisprimary
CROSS JOIN LATERAL (
    SELECT array_remove((CAST(main.indkey AS int2[]))[0 : main.indnkeyatts - 1], key.indkey[0]) AS columns
) AS rest
CROSS JOIN LATERAL (
    SELECT cardinality(rest.columns) < key.indnkeyatts
           AND array_to_string((CAST(key.indkey AS int2[]))[1 : cardinality(rest.columns)], ' ')
               = array_to_string(rest.columns, ' ')
           AND (SELECT count(DISTINCT direction) = 1 FROM unnest(CAST(key.indoption AS int2[])) AS direction) AS keyed
) AS whole
LEFT JOIN pg_catalog.pg_namespace AS space ON space.oid = relation.relnamespace
LEFT JOIN pg_catalog.pg_stats AS seen
    ON seen.schemaname = space.nspname AND seen.tablename = relation.relname AND seen.attname = attribute.attname
    AND seen.inherited = (relation.relkind = 'p')
WHERE key.indrelid = CAST(to_regclass(:table) AS oid) AND key.indisvalid AND key.indisready AND key.indpred IS NULL
GROUP BY attribute.attname
""")


class _Explained(Executable, ClauseElement):
    inherit_cache = False

    def __init__(self, statement: Select[int]) -> None:
        self.statement = statement


@compiles(_Explained, "postgresql")
def _explain(element: _Explained, compiler: SQLCompiler, **options: object) -> str:
    return f"EXPLAIN (FORMAT JSON) {compiler.process(element.statement, **options)}"


async def leading_columns(connection: AsyncConnection, table: Table) -> list[LeadingColumn]:
    """The columns that come first in a complete index of the column's own order, as far as their statistics are known.

    Args:
        connection: to a PostgreSQL.
        table: a registered one.
    """
    # format_table's own annotation is missing in SQLAlchemy 2.1
    preparer: PGIdentifierPreparer = connection.dialect.identifier_preparer  # type: ignore[assignment]
    rows = await connection.execute(LEADING, {"table": preparer.format_table(table)})
    return [LeadingColumn(row.name, float(row.rows_per_value)) for row in rows if row.rows_per_value is not None]


async def estimate_rows(connection: AsyncConnection, table: Table, condition: ColumnElement[bool]) -> int:
    """About how many rows of a table pass a condition, without looking at any.

    Args:
        connection: to a PostgreSQL.
        table: a registered one.
        condition: over its columns.
    """
    statement = _Explained(select(literal(1)).select_from(table).where(condition))
    (plan,) = (await connection.execute(statement)).scalar_one()
    return int(plan["Plan"]["Plan Rows"])
