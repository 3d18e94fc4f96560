"""Existing tables without a model: what WORKER_REFLECT names is read from the database when a process starts.

Owns making a registered table of what the catalogue shows. Refuses to look for tables that nobody named.
"""

from collections.abc import Sequence

from sqlalchemy import JSON, Connection, MetaData, Table, inspect
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeEngine

from worker.core.errors import SettingsError, choices
from worker.core.settings import Settings
from worker.database.engine import Database
from worker.declare.tables import RegisteredTable, Tables, check_name


async def complete_tables(database: Database, tables: Tables, settings: Settings) -> Tables:
    """The tables of the models together with those that WORKER_REFLECT names.

    Args:
        database: where the tables are.
        tables: those of the models.
        settings: `reflect`, and `allow`, whose names are checked now that all tables are known.

    Raises:
        SettingsError: a named table does not exist, is a model's already, or WORKER_ALLOW names an unknown one.
        DeclarationError: one is the ledger's own.
    """
    if settings.reflect:
        async with database.reading() as connection:
            found = await connection.run_sync(_reflect, settings.reflect, tables)
            for registered in found:
                await _correct_types(connection, database, registered.table)
        tables = tables.with_more(found)
    tables.check_allowed_names()
    return tables


async def _correct_types(connection: AsyncConnection, database: Database, table: Table) -> None:
    """Give columns the types that they have, where SQLAlchemy knows less than the database's own reader does.

    MariaDB shows documents as text that is checked to be JSON. Of its floats SQLAlchemy would make decimals of ten
    digits, and the server six.
    """
    facts = await database.dialect.table_facts(connection, table)
    for column in table.columns:
        found = facts.column(column.name)
        if found.type_name == "json" and not isinstance(column.type, JSON):
            column.type = JSON(none_as_null=True)
        rounded = found.driver_type == "float4" or (
            found.driver_type == "float8" and getattr(column.type, "asdecimal", False)
        )
        if rounded and isinstance(found.exact_type, TypeEngine):
            column.type = found.exact_type


def _reflect(connection: Connection, names: Sequence[str], tables: Tables) -> list[RegisteredTable]:
    home = inspect(connection).default_schema_name
    modelled = {(known.table.schema or home, known.table.name): known for known in tables}
    metadata = MetaData()
    found = []
    for name in names:
        schema, _, table_name = name.rpartition(".")
        check_name(table_name, f"WORKER_REFLECT names {name!r}")
        if (schema or home, table_name) in modelled:
            # under two names, a limit that WORKER_ALLOW sets on one would not hold for the other
            raise SettingsError(
                f"WORKER_REFLECT names {name!r}, which a model of WORKER_MODELS registers as "
                f"{modelled[schema or home, table_name].name!r}. Leave it out of WORKER_REFLECT"
            )
        found.append(RegisteredTable(name, _read(connection, metadata, schema or None, table_name), None))
    return found


def _read(connection: Connection, metadata: MetaData, schema: str | None, name: str) -> Table:
    schemas = inspect(connection).get_schema_names() if schema else []
    if schema and schema not in schemas:
        raise SettingsError(
            f"WORKER_REFLECT names '{schema}.{name}', whose schema the database does not have. "
            f"{choices(schema, schemas)} For example WORKER_REFLECT={schemas[0]}.{name}"
        )
    try:
        # tables that it refers to are not registered by that, so they are not read
        return Table(name, metadata, schema=schema, autoload_with=connection, resolve_fks=False)
    except NoSuchTableError:
        existing = inspect(connection).get_table_names(schema)
        raise SettingsError(
            f"WORKER_REFLECT names {f'{schema}.{name}' if schema else name!r}, which the database does not have. "
            f"{choices(name, existing)} For example WORKER_REFLECT=public.orders,public.items"
        ) from None
