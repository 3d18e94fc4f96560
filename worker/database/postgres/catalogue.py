"""What PostgreSQL's catalogue says about a table: the reader of `TableFacts`.

Owns the two catalogue queries and what is made of them. Refuses to trust a model: only what the database has counts.
"""

from collections.abc import Collection, Mapping
from typing import Final

from sqlalchemy import RowMapping, Table, text
from sqlalchemy.dialects.postgresql.base import PGIdentifierPreparer
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.errors import RequestError
from worker.core.table_facts import ColumnFacts, TableFacts, UniqueKey
from worker.database.postgres.exact_types import exact_type

NATIVE_TYPES: Final = frozenset(
    {
        *("bool", "int2", "int4", "int8", "oid", "float4", "float8", "numeric", "bytea", "uuid", "inet", "cidr"),
        *("bit", "varbit", "date", "time", "timetz", "timestamp", "timestamptz", "interval"),
        *("int4range", "int8range", "numrange", "daterange", "tsrange", "tstzrange"),
        *("int4multirange", "int8multirange", "nummultirange", "datemultirange", "tsmultirange", "tstzmultirange"),
    }
)
"""Built-in types that the driver wants as Python objects. It takes every other type in its written form."""

INTEGER_RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "int2": (-(2**15), 2**15 - 1),
    "int4": (-(2**31), 2**31 - 1),
    "int8": (-(2**63), 2**63 - 1),
}

# The recursion walks from a domain to the type beneath it, gathering NOT NULL, length and default on the way: the
# type beneath is what a value is cast to, because a cast to a domain over varchar(n) would cut it short in silence.
# Equality is looked for among the default operator classes, of the type itself or of one that it is stored as
# (varchar as text); citext and nondeterministic collations have one, but it overlooks a change of case.
COLUMNS = text("""
WITH RECURSIVE layers AS (
    SELECT attribute.attnum, attribute.atttypid AS type, attribute.atttypmod AS typmod,
           attribute.attnotnull AS not_null, CAST(NULL AS text) COLLATE "C" AS type_default
    FROM pg_catalog.pg_attribute AS attribute
    WHERE attribute.attrelid = CAST(to_regclass(:table) AS oid) AND attribute.attnum > 0 AND NOT attribute.attisdropped
    UNION ALL
    SELECT layers.attnum, domain.typbasetype, domain.typtypmod, layers.not_null OR domain.typnotnull,
           coalesce(layers.type_default, domain.typdefault)
    FROM layers JOIN pg_catalog.pg_type AS domain ON domain.oid = layers.type AND domain.typtype = 'd'
)
SELECT attribute.attname AS name,
       relation.relkind = 'p' AS partitioned,
       EXISTS (SELECT FROM pg_catalog.pg_constraint AS late
               WHERE late.condeferred AND relation.oid IN (late.conrelid, late.confrelid)) AS deferred,
       CASE WHEN relation.reltuples >= 0 THEN CAST(relation.reltuples AS bigint) END AS estimated_rows,
       format_type(layers.type, -1) AS type_name,
       format_type(layers.type, layers.typmod) AS full_type,
       NOT layers.not_null AS nullable,
       CASE WHEN attribute.attidentity = 'd'
            THEN format('nextval(%L::regclass)',
                        pg_get_serial_sequence(CAST(CAST(relation.oid AS regclass) AS text), attribute.attname))
            WHEN attribute.attgenerated = ''
            THEN coalesce(pg_get_expr(def.adbin, def.adrelid), layers.type_default) END AS "default",
       attribute.attgenerated <> '' OR attribute.attidentity = 'a' AS generated,
       attribute.attidentity = 'a' AS identity,
       CASE WHEN base.typnamespace = CAST('pg_catalog' AS regnamespace) THEN CAST(base.typname AS text) END AS builtin,
       CAST(base.typcategory AS text) AS category,
       layers.typmod,
       CASE WHEN collation_.collname <> 'default' THEN format('%I.%I', collation_space.nspname, collation_.collname) END
           AS collation,
       coalesce(collation_.collisdeterministic, true) AND item.typname <> 'citext' AND (
           item.typtype IN ('e', 'r', 'm')
           OR EXISTS (
               SELECT FROM pg_catalog.pg_opclass AS class
               JOIN pg_catalog.pg_am AS method ON method.oid = class.opcmethod
               WHERE class.opcdefault AND method.amname IN ('btree', 'hash') AND (
                   class.opcintype = item.oid
                   OR EXISTS (SELECT FROM pg_catalog.pg_cast AS stored
                              WHERE stored.castsource = item.oid AND stored.casttarget = class.opcintype
                                AND stored.castmethod = 'b' AND stored.castcontext = 'i')))) AS comparable
FROM layers
JOIN pg_catalog.pg_type AS base ON base.oid = layers.type AND base.typtype <> 'd'
JOIN pg_catalog.pg_type AS item
    ON item.oid = CASE WHEN base.typcategory = 'A' AND base.typelem <> 0 THEN base.typelem ELSE base.oid END
JOIN pg_catalog.pg_attribute AS attribute
    ON attribute.attrelid = CAST(to_regclass(:table) AS oid) AND attribute.attnum = layers.attnum
JOIN pg_catalog.pg_class AS relation ON relation.oid = attribute.attrelid
LEFT JOIN pg_catalog.pg_attrdef AS def ON def.adrelid = attribute.attrelid AND def.adnum = attribute.attnum
LEFT JOIN pg_catalog.pg_collation AS collation_ ON collation_.oid = attribute.attcollation
LEFT JOIN pg_catalog.pg_namespace AS collation_space ON collation_space.oid = collation_.collnamespace
ORDER BY attribute.attnum
""")

# ON CONFLICT takes no deferrable and no exclusion constraint, and finds an index by its columns alone: one that is
# partial, over expressions, or blind to more differences than its columns are, would answer for other rows than meant.
UNIQUE_KEYS = text("""
SELECT index.relname AS name, key.indisprimary AS "primary",
       array_agg(CAST(attribute.attname AS text) ORDER BY part.position) AS columns
FROM pg_catalog.pg_index AS key
JOIN pg_catalog.pg_class AS index ON index.oid = key.indexrelid
CROSS JOIN LATERAL unnest(CAST(key.indkey AS int2[]), CAST(key.indcollation AS oid[]))
    WITH ORDINALITY AS part (attnum, collation_oid, position)
JOIN pg_catalog.pg_attribute AS attribute ON attribute.attrelid = key.indrelid AND attribute.attnum = part.attnum
LEFT JOIN pg_catalog.pg_collation AS collation_ ON collation_.oid = part.collation_oid
WHERE key.indrelid = CAST(to_regclass(:table) AS oid) AND part.position <= key.indnkeyatts
  AND key.indisunique AND key.indisvalid AND key.indimmediate AND NOT key.indisexclusion
  AND key.indpred IS NULL AND key.indexprs IS NULL
GROUP BY index.relname, key.indexrelid, key.indisprimary
HAVING bool_and(part.collation_oid = attribute.attcollation OR coalesce(collation_.collisdeterministic, true))
ORDER BY key.indisprimary DESC,
         EXISTS (SELECT FROM pg_catalog.pg_constraint AS named WHERE named.conindid = key.indexrelid) DESC,
         index.relname
""")

# More generous than above: a deferrable key is unique in what is committed, a partial one may cover the rows that a
# query means, and of a view or a foreign table nobody can say.
MAY_BE_UNIQUE = text("""
SELECT relation.relkind NOT IN ('r', 'p') OR EXISTS (
    SELECT FROM pg_catalog.pg_index AS key
    WHERE key.indrelid = relation.oid AND key.indisunique AND key.indisvalid AND key.indexprs IS NULL
      AND NOT EXISTS (
          SELECT FROM unnest(CAST(key.indkey AS int2[])) WITH ORDINALITY AS part (attnum, position)
          JOIN pg_catalog.pg_attribute AS attribute
              ON attribute.attrelid = relation.oid AND attribute.attnum = part.attnum
          WHERE part.position <= key.indnkeyatts AND attribute.attname <> ALL (CAST(:columns AS text[]))))
FROM pg_catalog.pg_class AS relation
WHERE relation.oid = CAST(to_regclass(:table) AS oid)
""")


async def may_be_unique(connection: AsyncConnection, table: Table, columns: Collection[str]) -> bool:
    """Whether something unique lies within some columns of a table, or may.

    Args:
        connection: to a PostgreSQL.
        table: names the table.
        columns: those that are to tell its rows apart.
    """
    asked = {"table": _written(connection, table), "columns": sorted(columns)}
    return bool((await connection.execute(MAY_BE_UNIQUE, asked)).scalar_one())


async def read_table_facts(connection: AsyncConnection, table: Table) -> TableFacts:
    """What the database says about a registered table, in two round trips.

    Args:
        connection: to a PostgreSQL; its search path decides where a table without a schema is.
        table: names the table; nothing else of it is believed.

    Raises:
        RequestError: the database has no such table.
    """
    name = {"table": _written(connection, table)}
    columns = (await connection.execute(COLUMNS, name)).mappings().all()
    if not columns:
        raise RequestError(
            f"Table {table.fullname!r} is registered, but this database has none of that name. Create it first, for "
            "example with your migrations, or see that DATABASE_URL names the right database and search path"
        )
    keys = (await connection.execute(UNIQUE_KEYS, name)).mappings().all()
    return TableFacts(
        table=table.fullname,
        columns={row["name"]: _column_facts(row) for row in columns},
        unique_keys=tuple(UniqueKey(row["name"], tuple(row["columns"]), primary=row["primary"]) for row in keys),
        partitioned=columns[0]["partitioned"],
        estimated_rows=columns[0]["estimated_rows"],
        deferred=columns[0]["deferred"],
    )


def _written(connection: AsyncConnection, table: Table) -> str:
    # format_table's own annotation is missing in SQLAlchemy 2.1
    preparer: PGIdentifierPreparer = connection.dialect.identifier_preparer  # type: ignore[assignment]
    return preparer.format_table(table)


def _driver_type(builtin: str | None) -> str:
    if builtin not in NATIVE_TYPES:
        return "text"
    # Written bare, `bit` means bit(1).
    return "varbit" if builtin == "bit" else builtin


def _column_facts(row: RowMapping) -> ColumnFacts:
    driver_type = _driver_type(row["builtin"])
    array = row["category"] == "A"
    minimum, maximum = INTEGER_RANGES.get(row["builtin"], (None, None))
    bounded = row["builtin"] in {"varchar", "bpchar"} and row["typmod"] > 0
    return ColumnFacts(
        name=row["name"],
        type_name=row["type_name"],
        full_type=row["full_type"],
        nullable=row["nullable"],
        default=row["default"],
        generated=row["generated"],
        text=row["category"] == "S",
        # A length is stored with the four bytes of the header that precedes the characters.
        max_length=row["typmod"] - 4 if bounded else None,
        minimum=minimum,
        maximum=maximum,
        comparable=row["comparable"],
        array=array,
        driver_type=driver_type,
        collation=row["collation"],
        identity=row["identity"],
        exact_type=exact_type(row["type_name"], driver_type),
    )
