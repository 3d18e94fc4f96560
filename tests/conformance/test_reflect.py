"""WORKER_REFLECT: existing tables without a model."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import BigInteger, Column, Date, ForeignKey, MetaData, String, Table, make_url
from sqlalchemy.schema import CreateSchema, DropSchema

from tests.conftest import MODELS
from tests.support.chosen import Backend
from worker.core.errors import DeclarationError, SettingsError
from worker.core.settings import Settings
from worker.database.engine import Database
from worker.database.reflect import complete_tables
from worker.declare.tables import find_tables


@pytest.fixture
def home(database_url: str, backend: Backend) -> str:
    """The schema in which the tables of a model are; MariaDB calls a database so."""
    return {"postgresql": "public", "sqlite": "main", "mariadb": str(make_url(database_url).database)}[backend]


@pytest.fixture
async def old_schema(database: Database, backend: Backend, home: str) -> AsyncIterator[str | None]:
    """Another schema, of the test's own; None on SQLite, where a file is one."""
    if backend == "sqlite":
        yield None
        return
    # on MariaDB beside the test's database
    name = "old" if backend == "postgresql" else f"{home}_old"
    async with database.engine.begin() as connection:
        await connection.execute(CreateSchema(name))
    yield name
    async with database.engine.begin() as connection:
        await connection.execute(DropSchema(name, cascade=backend == "postgresql"))


@pytest.fixture
async def old_tables(database: Database, backend: Backend, home: str, old_schema: str | None) -> str:
    """Tables that no model describes, one of them in another schema where there are such; the name of that one."""
    metadata = MetaData()
    key = Column("id", BigInteger, primary_key=True)
    # MariaDB would look for what is referred to beside what refers to it
    named = Column("name", String(40), nullable=False)
    Table("customer", metadata, key, named, schema=home if backend == "mariadb" else None)
    Table(
        "invoice",
        metadata,
        Column("id", BigInteger, primary_key=True),
        Column("customer_id", BigInteger, ForeignKey(key)),
        Column("due", Date),
        schema=old_schema,
    )
    async with database.engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    return f"{old_schema}.invoice" if old_schema else "invoice"


async def test_named_tables_are_read(database: Database, settings: Settings, old_tables: str) -> None:
    """A table that is named is registered under that name, with its columns and without what it refers to."""
    changed = settings.model_copy(update={"reflect": (old_tables,)})
    tables = await complete_tables(database, find_tables((MODELS,), {}), changed)
    assert {table.name for table in tables} == {"item", "tally", old_tables}
    found = tables.get(old_tables)
    assert (list(found.table.columns.keys()), found.model) == (["id", "customer_id", "due"], None)


@pytest.mark.usefixtures("old_tables")
async def test_grants_hold_for_reflected_tables(database: Database, settings: Settings) -> None:
    """WORKER_ALLOW may name a reflected table, and a misspelt name stops the start."""
    reflect = settings.model_copy(update={"reflect": ("customer",)})
    tables = await complete_tables(database, find_tables((MODELS,), {"customer": ("read",)}), reflect)
    assert tables.allowed("customer", "read").name == "customer"
    with pytest.raises(SettingsError, match="Did you mean 'customer'"):
        await complete_tables(database, find_tables((MODELS,), {"custmer": ("read",)}), reflect)


@pytest.mark.parametrize(
    ("named", "error", "said"),
    [
        ("custommer", SettingsError, "Did you mean 'customer'"),
        ("{home}.item", SettingsError, "registers as 'item'"),
        ("heavylift_runs", DeclarationError, "ledger's own"),
    ],
)
@pytest.mark.usefixtures("old_tables")
async def test_what_cannot_be_registered(
    database: Database, settings: Settings, home: str, named: str, error: type[Exception], said: str
) -> None:
    """A missing table, a model's table under a second name and the ledger's own are refused with advice."""
    changed = settings.model_copy(update={"reflect": (named.format(home=home),)})
    with pytest.raises(error, match=said):
        await complete_tables(database, find_tables((MODELS,), {}), changed)


@pytest.mark.only_on("postgresql", "mariadb", why="SQLite's file is its only schema")
@pytest.mark.usefixtures("old_tables")
async def test_what_is_in_another_schema_is_listed(database: Database, settings: Settings, old_schema: str) -> None:
    """A missing table is refused with the tables that its schema has."""
    changed = settings.model_copy(update={"reflect": (f"{old_schema}.nothing",)})
    with pytest.raises(SettingsError, match="There are: invoice"):
        await complete_tables(database, find_tables((MODELS,), {}), changed)


async def test_a_schema_that_is_not_there_is_refused(database: Database, settings: Settings, home: str) -> None:
    """A table of a schema that the database has not is refused with those that it has."""
    changed = settings.model_copy(update={"reflect": ("odl.invoice",)})
    with pytest.raises(SettingsError, match=rf"whose schema the database does not have.*\b{home}\b"):
        await complete_tables(database, find_tables((MODELS,), {}), changed)
