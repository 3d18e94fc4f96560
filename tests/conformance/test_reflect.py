"""WORKER_REFLECT: existing tables without a model."""

import pytest
from sqlalchemy import text

from tests.conftest import MODELS
from worker.core.errors import DeclarationError, SettingsError
from worker.core.settings import Settings
from worker.database.engine import Database
from worker.database.reflect import complete_tables
from worker.declare.tables import find_tables


@pytest.fixture
async def old_tables(database: Database) -> None:
    """Tables that no model describes, one of them in another schema."""
    async with database.engine.begin() as connection:
        await connection.execute(text("CREATE SCHEMA old"))
        await connection.execute(text("CREATE TABLE customer (id bigint PRIMARY KEY, name text NOT NULL)"))
        await connection.execute(
            text("CREATE TABLE old.invoice (id uuid PRIMARY KEY, customer_id bigint REFERENCES customer, due date)")
        )


@pytest.mark.usefixtures("old_tables")
async def test_named_tables_are_read(database: Database, settings: Settings) -> None:
    """A table that is named is registered under that name, with its columns and without what it refers to."""
    changed = settings.model_copy(update={"reflect": ("old.invoice",)})
    tables = await complete_tables(database, find_tables((MODELS,), {}), changed)
    assert {table.name for table in tables} == {"item", "tally", "old.invoice"}
    found = tables.get("old.invoice")
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
        ("old.nothing", SettingsError, "There are: invoice"),
        ("public.item", SettingsError, "registers as 'item'"),
        ("heavylift_runs", DeclarationError, "ledger's own"),
    ],
)
@pytest.mark.usefixtures("old_tables")
async def test_what_cannot_be_registered(
    database: Database, settings: Settings, named: str, error: type[Exception], said: str
) -> None:
    """A missing table, a model's table under a second name and the ledger's own are refused with advice."""
    changed = settings.model_copy(update={"reflect": (named,)})
    with pytest.raises(error, match=said):
        await complete_tables(database, find_tables((MODELS,), {}), changed)
