"""What MariaDB's and MySQL's catalogue says about a table: the reader of `TableFacts`.

Owns the catalogue queries and what is made of them. Refuses to trust a model (only what the database has counts), and
a table whose engine has no transactions: what a chunk did to it could not be taken back.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Table, TextClause, text
from sqlalchemy.dialects.mysql.base import MySQLDialect
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.errors import RequestError
from worker.core.table_facts import TableFacts, UniqueKey
from worker.database.mysql.type_words import column_facts

# The first comparison of names lets the server open one table only; the second tells `Orders` from `orders` where the
# file system does.
_NAMED: Final = """
table_schema = COALESCE(:schema, DATABASE()) AND table_name = :table
AND (BINARY table_name = BINARY :table OR @@lower_case_table_names <> 0)
"""

TABLE: Final = text(f"""
SELECT table_type, engine, table_rows, create_options LIKE '%partitioned%' AS partitioned,
       (SELECT transactions FROM information_schema.engines AS e WHERE e.engine = t.engine) AS transactions
FROM information_schema.tables AS t WHERE {_NAMED}
""")  # noqa: S608 - constant texts

COLUMNS: Final = text(f"""
SELECT * FROM information_schema.columns WHERE {_NAMED} ORDER BY ordinal_position
""")  # noqa: S608 - constant texts

INDEXES: Final = text(f"""
SELECT * FROM information_schema.statistics WHERE {_NAMED} ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index
""")  # noqa: S608 - constant texts

# MariaDB keeps JSON as text with a constraint of the column's own, of its name
DOCUMENTS: Final = text("""
SELECT constraint_name, check_clause FROM information_schema.check_constraints
WHERE constraint_schema = COALESCE(:schema, DATABASE()) AND table_name = :table AND check_clause LIKE 'json_valid(%'
""")

Rows = Sequence[Mapping[str, Any]]


async def may_be_unique(connection: AsyncConnection, table: Table, columns: Collection[str]) -> bool:
    """Whether something unique lies within some columns of a table, or may.

    Args:
        connection: to a MariaDB or a MySQL.
        table: names the table.
        columns: those that are to tell its rows apart.
    """
    found = await table_row(connection, table)
    if found is None or found["engine"] is None:
        return True
    return any(
        not any(part["non_unique"] for part in parts)
        and all(part["column_name"] is not None and part["column_name"] in columns for part in parts)
        for parts in (await indexes_of(connection, table)).values()
    )


async def read_table_facts(connection: AsyncConnection, table: Table) -> TableFacts:
    """What the database says about a registered table, in three round trips, or four on MariaDB.

    Args:
        connection: to a MariaDB or a MySQL; its database is where a table without a schema is.
        table: names the table; nothing else of it is believed.

    Raises:
        RequestError: the database has no such table, or its engine has no transactions.
    """
    found = await table_row(connection, table)
    if found is None:
        raise RequestError(
            f"Table {table.fullname!r} is registered, but this database has none of that name. Create it first, for "
            "example with your migrations, or see that DATABASE_URL names the right database"
        )
    _refuse_without_transactions(table, found)
    mariadb = _is_mariadb(connection)
    documents = await _documents(connection, table) if mariadb else frozenset()
    columns = {
        row["column_name"]: column_facts(row, document=row["column_name"] in documents, mariadb=mariadb)
        for row in await _read(connection, COLUMNS, table)
    }
    indexes = await indexes_of(connection, table)
    return TableFacts(
        table=table.fullname,
        columns=columns,
        unique_keys=tuple(
            UniqueKey(name, tuple(part["column_name"] for part in parts), primary=name == "PRIMARY")
            for name, parts in indexes.items()
            if all(_tells_apart(part) for part in parts)
        ),
        partitioned=bool(found["partitioned"]),
        estimated_rows=found["table_rows"],
        compares_rows=False,
    )


def _refuse_without_transactions(table: Table, found: Mapping[str, Any]) -> None:
    if found["engine"] is not None and found["transactions"] != "YES":
        raise RequestError(
            f"Table {table.fullname!r} is of the engine {found['engine']}, which has no transactions: what an "
            "interrupted chunk did to it could not be taken back, and would be done twice. "
            f"Convert it first: ALTER TABLE {table.fullname} ENGINE=InnoDB"
        )


async def table_row(connection: AsyncConnection, table: Table) -> Mapping[str, Any] | None:
    """What the catalogue says of a table as a whole; None where it knows none of that name."""
    found = await _read(connection, TABLE, table)
    return found[0] if found else None


async def indexes_of(connection: AsyncConnection, table: Table) -> dict[str, list[Mapping[str, Any]]]:
    """The parts of each of a table's indexes, the primary key's first."""
    return _by_index(await _read(connection, INDEXES, table))


async def _documents(connection: AsyncConnection, table: Table) -> frozenset[str]:
    rows = await _read(connection, DOCUMENTS, table)
    return frozenset(
        row["constraint_name"] for row in rows if row["check_clause"] == f"json_valid(`{row['constraint_name']}`)"
    )


def _tells_apart(part: Mapping[str, Any]) -> bool:
    """Whether a part of an index is one of a key that an upsert may rely on, and may be told to use.

    One that begins a column only, or is over an expression, is unique in other things than the column's values. Where
    the index is a hash, two sessions may insert one key at once.
    """
    plain = part["column_name"] is not None and part["sub_part"] is None and part["index_type"] == "BTREE"
    seen = part.get("ignored", "NO") == "NO" and part.get("is_visible", "YES") == "YES"
    return plain and seen and not part["non_unique"]


def _by_index(rows: Rows) -> dict[str, list[Mapping[str, Any]]]:
    return {name: list(parts) for name, parts in groupby(rows, key=itemgetter("index_name"))}


async def _read(connection: AsyncConnection, statement: TextClause, table: Table) -> Rows:
    found = await connection.execute(statement, {"schema": table.schema, "table": table.name})
    # MySQL writes the names of its catalogue's columns in capitals, MariaDB as they were asked for
    return [{name.lower(): value for name, value in row.items()} for row in found.mappings()]


def _is_mariadb(connection: AsyncConnection) -> bool:
    return isinstance(connection.dialect, MySQLDialect) and connection.dialect.is_mariadb
