"""What SQLite's schema says about a table: the reader of `TableFacts`.

Owns the queries and what is made of them. Refuses to trust a model: only what the database has counts, but for UUIDs,
which SQLite has no type for: a column of text that the model says holds UUIDs, does.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from sqlalchemy import (
    ColumnElement,
    RowMapping,
    Select,
    Table,
    Uuid,
    column,
    false,
    func,
    literal,
    or_,
    select,
    text,
    union,
)
from sqlalchemy import table as named_table
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.errors import RequestError
from worker.core.table_facts import ColumnFacts, TableFacts, UniqueKey
from worker.database.sqlite.declared_types import LARGEST, SMALLEST, DeclaredType, read_declared, undecorated
from worker.database.sqlite.exact_types import Affinity, Stored
from worker.database.sqlite.indexes import Index, place_of, read_indexes

NEXT_ROWID: Final = "the next rowid"
"""What stands for the default of an INTEGER PRIMARY KEY, which is no expression."""


TABLE = text("""
SELECT found.name, found.type, found.wr AS without_rowid, found.strict,
       EXISTS (SELECT 1 FROM pragma_table_list WHERE schema = :schema AND name = 'sqlite_stat1') AS analysed
FROM pragma_table_list AS found
WHERE found.schema = :schema AND found.name = :table COLLATE NOCASE
""")

COLUMNS = text("""
SELECT name, type, "notnull" AS not_null, dflt_value, pk, hidden
FROM pragma_table_xinfo(:table, :schema) WHERE hidden <> 1 ORDER BY cid
""")

# Nothing but its text says that a foreign key waits for COMMIT. Where the words stand in a remark, one check too many
# is made.
DEFERRED = """
SELECT EXISTS (
    SELECT 1 FROM {schema}.sqlite_master AS made
    WHERE made.type = 'table' AND made.sql LIKE '%initially%deferred%' AND (
        made.name = :table COLLATE NOCASE
        OR EXISTS (SELECT 1 FROM pragma_foreign_key_list(made.name, :schema) AS reference
                   WHERE reference."table" = :table COLLATE NOCASE)))
"""


def has_rowid_key(facts: TableFacts) -> bool:
    """Whether a table's primary key is another name of its rowid."""
    return any(known.default == NEXT_ROWID for known in facts.columns.values())


async def may_be_unique(connection: AsyncConnection, table: Table, columns: Collection[str]) -> bool:
    """Whether something unique lies within some columns of a table, or may.

    Args:
        connection: to an SQLite.
        table: names the table.
        columns: those that are to tell its rows apart.
    """
    place = place_of(table)
    found = await _find(connection, table)
    if found["type"] != "table":
        return True
    indexes = await read_indexes(connection, place)
    if _rowid_column(await _read_columns(connection, place), indexes, found) in columns:
        return True
    # more generous than a key of an upsert: a partial one may cover the rows that a query means
    return any(index.unique and set(index.columns) <= set(columns) for index in indexes)


async def read_table_facts(connection: AsyncConnection, table: Table) -> TableFacts:
    """What the database says about a registered table.

    Args:
        connection: to an SQLite.
        table: names the table; of the rest, only that a column holds UUIDs is believed.

    Raises:
        RequestError: the database has no such table, or rows of it have NULL for a primary key.
    """
    place = place_of(table)
    found = await _find(connection, table)
    columns = await _read_columns(connection, place)
    kinds = {row["name"]: read_declared(row["type"], strict=bool(found["strict"])) for row in columns}
    collations = await _read_collations(connection, table, kinds)
    primary = [row["name"] for row in sorted(columns, key=lambda row: row["pk"]) if row["pk"]]
    indexes = await read_indexes(connection, place)
    rowid = _rowid_column(columns, indexes, found)
    facts = {
        row["name"]: _column_facts(row, kinds[row["name"]], table, collations, found, is_rowid=row["name"] == rowid)
        for row in columns
    }
    await _refuse_null_keys(connection, table, [name for name in primary if facts[name].nullable], primary)
    keys = [UniqueKey("primary key", (rowid,), primary=True)] if rowid else []
    keys += [
        UniqueKey(index.name, index.columns, primary=index.origin == "pk")
        for index in indexes
        if index.unique and not index.partial and index.orders_as(collations)
    ]
    schema = connection.dialect.identifier_preparer.quote(place["schema"])
    deferred = await connection.execute(text(DEFERRED.format(schema=schema)), place)
    return TableFacts(
        table=table.fullname,
        columns=facts,
        unique_keys=tuple(keys),
        estimated_rows=await estimated_rows(connection, table) if found["analysed"] else None,
        deferred=bool(deferred.scalar_one()),
    )


async def estimated_rows(connection: AsyncConnection, table: Table) -> int | None:
    """How many rows a table had when it was last analysed, of a database that was; None where that is not known."""
    statistics = named_table("sqlite_stat1", column("tbl"), column("stat"), schema=place_of(table)["schema"])
    of_table = func.lower(statistics.c.tbl) == table.name.lower()
    found = (await connection.execute(select(statistics.c.stat).where(of_table))).scalars().all()
    counts = [int(stat.split()[0]) for stat in found if stat and stat.split()[0].isdigit()]
    # a partial index counts its own rows only
    return max(counts) if counts else None


async def _find(connection: AsyncConnection, table: Table) -> RowMapping:
    found = (await connection.execute(TABLE, place_of(table))).mappings().first()
    if found is None:
        raise RequestError(
            f"Table {table.fullname!r} is registered, but this database has none of that name. Create it first, for "
            "example with your migrations, or see that DATABASE_URL names the right file"
        )
    return found


async def _read_columns(connection: AsyncConnection, place: Mapping[str, str]) -> Sequence[RowMapping]:
    return (await connection.execute(COLUMNS, place)).mappings().all()


def _rowid_column(columns: Sequence[RowMapping], indexes: Sequence[Index], table: RowMapping) -> str | None:
    """The column that is another name of the rowid: an INTEGER PRIMARY KEY, which needs no index."""
    primary = [row for row in columns if row["pk"]]
    if table["without_rowid"] or len(primary) != 1 or primary[0]["type"].upper() != "INTEGER":
        return None
    # with DESC it has one, and is a column like any other
    return None if any(index.origin == "pk" for index in indexes) else str(primary[0]["name"])


async def _read_collations(
    connection: AsyncConnection, table: Table, kinds: Mapping[str, DeclaredType]
) -> dict[str, str | None]:
    """The collation of each column that may hold text; None where it compares byte by byte.

    The schema tells an index's collations only, so the columns are asked: a UNION compares as its first column does.
    """
    home = named_table(table.name, schema=table.schema)
    names = [name for name, kind in kinds.items() if kind.affinity in {Affinity.TEXT, Affinity.BLOB}]

    def overlooks(name: str, other: str) -> ColumnElement[bool]:
        nothing: Select[str] = select(column(name)).select_from(home).where(false())
        distinct = union(nothing, select(literal("a")), select(literal(other))).subquery()
        return select(func.count() == 1).select_from(distinct).scalar_subquery()

    asked = [question for name in names for question in (overlooks(name, "A"), overlooks(name, "a "))]
    if not asked:
        return {}
    answers = list((await connection.execute(select(*asked))).one())
    return {
        name: "NOCASE" if answers[2 * at] else "RTRIM" if answers[2 * at + 1] else None for at, name in enumerate(names)
    }


async def _refuse_null_keys(
    connection: AsyncConnection, table: Table, nullable: Sequence[str], primary: Sequence[str]
) -> None:
    # SQLite lets a primary key be NULL unless its columns say NOT NULL, the table is WITHOUT ROWID, or it is the rowid
    if not nullable:
        return
    home = named_table(table.name, schema=table.schema)
    lost = select(literal(1)).select_from(home).where(or_(*(column(name).is_(None) for name in nullable))).limit(1)
    if (await connection.execute(lost)).first() is not None:
        raise RequestError(
            f"Table {table.fullname!r} has rows with NULL in their primary key ({', '.join(primary)}), which SQLite "
            "allows where the columns do not say NOT NULL: such a row has no place in the order of keys, and would be "
            f"passed over. Give those rows keys: they are found by the condition {nullable[0]} IS NULL"
        )


def _column_facts(
    row: RowMapping,
    kind: DeclaredType,
    table: Table,
    collations: Mapping[str, str | None],
    found: RowMapping,
    *,
    is_rowid: bool,
) -> ColumnFacts:
    name = row["name"]
    uuid = kind.affinity is Affinity.TEXT and _is_uuid(table, name)
    collation = collations.get(name)
    whole = kind.driver_type == "int8"
    return ColumnFacts(
        name=name,
        type_name="uuid" if uuid else kind.type_name,
        full_type="uuid" if uuid else kind.full_type,
        nullable=not (row["not_null"] or is_rowid or (found["without_rowid"] and row["pk"])),
        default=NEXT_ROWID if is_rowid else row["dflt_value"],
        generated=row["hidden"] != 0,
        text=kind.affinity is Affinity.TEXT and not uuid,
        max_length=None if uuid else kind.length,
        minimum=SMALLEST if whole else None,
        maximum=LARGEST if whole else None,
        comparable=collation is None,
        driver_type="uuid" if uuid else kind.driver_type,
        collation=collation,
        exact_digits=kind.exact_digits,
        finite=kind.driver_type in {"numeric", "float8"},
        exact_type=Stored(kind.affinity),
    )


def _is_uuid(table: Table, name: str) -> bool:
    return any(part.name == name and isinstance(undecorated(part.type), Uuid) for part in table.columns)
