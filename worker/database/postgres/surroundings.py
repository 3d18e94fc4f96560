"""What stands around a PostgreSQL table and has a say when its rows change: the reader of `Surroundings`.

Owns the catalogue queries. Refuses to judge: `worker.core.preflight` does.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Table, text
from sqlalchemy.dialects.postgresql.base import PGIdentifierPreparer
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.errors import RequestError
from worker.core.preflight import Change, Reference, Surroundings, Trigger

# Of FOR UPDATE the manual says that it takes the privilege UPDATE on a column at least: whoever deletes under locks
# needs more than DELETE.
TABLE = text("""
SELECT CAST(CAST(relation.oid AS regclass) AS text) AS name,
       relation.relkind = 'p' AS partitioned,
       row_security_active(relation.oid) AS policies,
       ARRAY(SELECT CAST(rule.rulename AS text) FROM pg_catalog.pg_rewrite AS rule
             WHERE rule.ev_class = relation.oid AND rule.ev_enabled <> 'D'
               AND CAST(rule.ev_type AS text) = CAST(:rule AS text)
             ORDER BY rule.rulename) AS rules,
       ARRAY(WITH RECURSIVE heirs AS (
                 SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = relation.oid
                 UNION
                 SELECT below.inhrelid
                 FROM heirs JOIN pg_catalog.pg_inherits AS below ON below.inhparent = heirs.inhrelid)
             SELECT CAST(CAST(inhrelid AS regclass) AS text) FROM heirs ORDER BY 1) AS heirs,
       ARRAY(SELECT format('GRANT %s ON %s TO %I', needed, CAST(relation.oid AS regclass), current_user)
             FROM unnest(CAST(:needed AS text[])) AS needed
             WHERE NOT CASE WHEN needed = 'DELETE' THEN has_table_privilege(relation.oid, needed)
                            ELSE has_any_column_privilege(relation.oid, needed) END) AS lacking
FROM pg_catalog.pg_class AS relation
WHERE relation.oid = CAST(to_regclass(:table) AS oid)
""")

TRIGGERS = text("""
SELECT CAST(fired.tgname AS text) AS name, fired.tgtype & 1 = 1 AS each_row,
       ARRAY(SELECT CAST(attribute.attname AS text) FROM pg_catalog.pg_attribute AS attribute
             WHERE attribute.attrelid = fired.tgrelid AND attribute.attnum = ANY (CAST(fired.tgattr AS int2[]))
             ORDER BY attribute.attnum) AS columns
FROM pg_catalog.pg_trigger AS fired
WHERE fired.tgrelid = CAST(to_regclass(:table) AS oid) AND NOT fired.tgisinternal AND fired.tgenabled <> 'D'
  AND fired.tgtype & CAST(:event AS int) <> 0
ORDER BY fired.tgname
""")

# The recursion follows ON DELETE CASCADE: what a table deep down refers to is deleted too, and is looked for there.
# A partial index serves a foreign key's own look-ups only where it leaves out nothing but NULLs. Rows are estimated as
# the planner does: by the last density times the present size; where nothing was ever counted, at 100 bytes each.
REFERENCES = text("""
WITH RECURSIVE losing AS (
    SELECT CAST(to_regclass(:table) AS oid) AS oid
    UNION
    SELECT cascade_.conrelid FROM losing JOIN pg_catalog.pg_constraint AS cascade_ ON cascade_.confrelid = losing.oid
    WHERE :cascading AND cascade_.contype = 'f' AND cascade_.confdeltype = 'c' AND cascade_.conparentid = 0
)
SELECT CAST(reference.conname AS text) AS name,
       CAST(CAST(reference.conrelid AS regclass) AS text) AS "table",
       CAST(CAST(reference.confrelid AS regclass) AS text) AS target,
       referring.names AS columns, referred.names AS targets,
       CAST(reference.confdeltype AS text) AS on_delete, CAST(reference.confupdtype AS text) AS on_update,
       EXISTS (
           SELECT FROM pg_catalog.pg_index AS key
           JOIN pg_catalog.pg_class AS index ON index.oid = key.indexrelid
           JOIN pg_catalog.pg_am AS method ON method.oid = index.relam AND method.amname IN ('btree', 'hash')
           JOIN pg_catalog.pg_attribute AS first ON first.attrelid = key.indrelid AND first.attnum = key.indkey[0]
           WHERE key.indrelid = reference.conrelid AND key.indisvalid AND key.indisready
             AND key.indkey[0] = ANY (reference.conkey)
             AND coalesce(pg_get_expr(key.indpred, key.indrelid) = format('(%I IS NOT NULL)', first.attname), true)
       ) AS indexed,
       CAST((SELECT coalesce(sum(pg_relation_size(part.oid) * CASE
                 WHEN part.reltuples > 0 AND part.relpages > 0
                 THEN part.reltuples / part.relpages / CAST(current_setting('block_size') AS int)
                 ELSE 0.01 END), 0)
             FROM pg_catalog.pg_class AS part
             WHERE part.relkind <> 'p' AND (part.oid = reference.conrelid OR part.oid IN (
                 SELECT relid FROM pg_partition_tree(CAST(reference.conrelid AS regclass)) WHERE isleaf))
       ) AS bigint) AS rows,
       format('CREATE INDEX %sON %s (%s)', CASE WHEN child.relkind = 'p' THEN '' ELSE 'CONCURRENTLY ' END,
              CAST(reference.conrelid AS regclass), referring.quoted) AS remedy
FROM losing
JOIN pg_catalog.pg_constraint AS reference ON reference.confrelid = losing.oid
JOIN pg_catalog.pg_class AS child ON child.oid = reference.conrelid
CROSS JOIN LATERAL (
    SELECT array_agg(CAST(attribute.attname AS text) ORDER BY part.position) AS names,
           string_agg(quote_ident(attribute.attname), ', ' ORDER BY part.position) AS quoted
    FROM unnest(reference.conkey) WITH ORDINALITY AS part (attnum, position)
    JOIN pg_catalog.pg_attribute AS attribute
        ON attribute.attrelid = reference.conrelid AND attribute.attnum = part.attnum
) AS referring
CROSS JOIN LATERAL (
    SELECT array_agg(CAST(attribute.attname AS text) ORDER BY part.position) AS names
    FROM unnest(reference.confkey) WITH ORDINALITY AS part (attnum, position)
    JOIN pg_catalog.pg_attribute AS attribute
        ON attribute.attrelid = reference.confrelid AND attribute.attnum = part.attnum
) AS referred
WHERE reference.contype = 'f' AND reference.conparentid = 0
ORDER BY 2, 1
""")

DEFERRED = text("""
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_constraint AS found
    WHERE found.condeferred AND (found.conrelid = CAST(to_regclass(:table) AS oid)
                                 OR CAST(CAST(found.confrelid AS regclass) AS text) = ANY (CAST(:losing AS text[]))))
""")

_ACTIONS: Final[Mapping[str, str]] = {
    "a": "no action",
    "r": "restrict",
    "c": "cascade",
    "n": "set null",
    "d": "set default",
}
_EVENTS: Final[Mapping[Change, int]] = {"insert": 1 << 2, "delete": 1 << 3, "update": 1 << 4}
_RULES: Final[Mapping[Change, str]] = {"update": "2", "insert": "3", "delete": "4"}
_PRIVILEGES: Final[Mapping[Change, list[str]]] = {
    "insert": ["INSERT"],
    "update": ["SELECT", "UPDATE"],
    "delete": ["SELECT", "UPDATE", "DELETE"],
}


async def read_surroundings(connection: AsyncConnection, table: Table, change: Change) -> Surroundings:
    """What stands around a registered table, in four round trips.

    Args:
        connection: to a PostgreSQL, as the role that will change the rows.
        table: names the table.
        change: what is to be done to its rows.

    Raises:
        RequestError: the database has no such table.
    """
    # format_table's own annotation is missing in SQLAlchemy 2.1
    preparer: PGIdentifierPreparer = connection.dialect.identifier_preparer  # type: ignore[assignment]
    name = {"table": preparer.format_table(table)}
    asked = {**name, "rule": _RULES[change], "needed": _PRIVILEGES[change]}
    found = (await connection.execute(TABLE, asked)).mappings().first()
    if found is None:
        raise RequestError(f"Table {table.fullname!r} is registered, but this database has none of that name")
    triggers = await connection.execute(TRIGGERS, {**name, "event": _EVENTS[change]})
    references = await _references(connection, name, cascading=change == "delete")
    losing = [found["name"], *(reference.target for reference in references)]
    deferred = await connection.execute(DEFERRED, {**name, "losing": losing})
    return Surroundings(
        table=found["name"],
        references=references,
        triggers=tuple(Trigger(row.name, row.each_row, tuple(row.columns)) for row in triggers),
        rules=tuple(found["rules"]),
        lacking=tuple(found["lacking"]),
        policies=found["policies"],
        partitioned=found["partitioned"],
        heirs=tuple(found["heirs"]),
        deferred=bool(deferred.scalar_one()),
    )


async def _references(
    connection: AsyncConnection, name: Mapping[str, str], *, cascading: bool
) -> tuple[Reference, ...]:
    rows = await connection.execute(REFERENCES, {**name, "cascading": cascading})
    return tuple(
        Reference(
            name=row["name"],
            table=row["table"],
            columns=tuple(row["columns"]),
            target=row["target"],
            targets=tuple(row["targets"]),
            on_delete=_ACTIONS[row["on_delete"]],
            on_update=_ACTIONS[row["on_update"]],
            indexed=row["indexed"],
            rows=row["rows"],
            remedy=row["remedy"],
        )
        for row in rows.mappings()
    )
