"""The tables that payloads may name, and what the configuration allows on each."""

import sys
from types import ModuleType

import pytest
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from tests.support import shop_models
from worker.core.errors import DeclarationError, NotAllowedError, SettingsError, UnknownColumnError, UnknownTableError
from worker.declare.tables import find_tables

SHOP = "tests.support.shop_models"
BANK = "tests.support.bank_models"


def module_of(monkeypatch: pytest.MonkeyPatch, name: str, *models: type[SQLModel]) -> str:
    """An importable module that holds these models, for one test."""
    module = ModuleType(name)
    for number, model in enumerate(models):
        setattr(module, f"model_{number}", model)
    monkeypatch.setitem(sys.modules, name, module)
    return name


def table_model(name: str, schema: str | None = None) -> type[SQLModel]:
    """A table of that name, in metadata of its own."""

    class Apart(SQLModel, registry=registry()):
        """Keeps the table out of the metadata that other tests create tables from."""

    class Made(Apart, table=True):
        __tablename__ = name
        __table_args__ = {"schema": schema}  # noqa: RUF012 - SQLAlchemy reads it as it is

        id: int = Field(primary_key=True)

    return Made


def test_every_table_of_a_module_is_found() -> None:
    """Table classes are registered by table name, and nothing else that the module holds."""
    assert {table.name for table in find_tables((SHOP,), {})} == {"item", "tally"}


def test_a_table_comes_with_its_model() -> None:
    """Identifiers come from the model's own table."""
    found = find_tables((SHOP,), {}).get("item")
    assert (found.model, found.table) == (shop_models.Item, SQLModel.metadata.tables["item"])


def test_without_modules_there_are_no_tables() -> None:
    """What nobody registered cannot be named."""
    assert list(find_tables((), {})) == []


def test_a_model_that_two_modules_hold_is_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing a model elsewhere does not declare it again."""
    other = module_of(monkeypatch, "shop_again", shop_models.Item)
    assert [table.name for table in find_tables((SHOP, other), {})] == ["item", "tally"]


def test_a_schema_is_part_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of a schema is named as SQL names it."""
    module = module_of(monkeypatch, "stock_models", table_model("orders", "stock"))
    assert [table.name for table in find_tables((module,), {})] == ["stock.orders"]


def test_two_models_of_one_table_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could tell which one a payload means."""
    module = module_of(monkeypatch, "rivals", table_model("orders"), table_model("orders"))
    with pytest.raises(DeclarationError, match="Two models claim table 'orders'"):
        find_tables((module,), {})


@pytest.mark.parametrize("schema", [None, "app"])
def test_the_ledgers_names_are_taken(monkeypatch: pytest.MonkeyPatch, schema: str | None) -> None:
    """A payload can never reach the ledger, in whichever schema."""
    module = module_of(monkeypatch, "intruder", table_model("heavylift_runs", schema))
    with pytest.raises(DeclarationError, match="the ledger's own"):
        find_tables((module,), {})


def test_an_unknown_table_gets_the_nearest_name_and_all_names() -> None:
    """The message says what was meant, what there is and how to register more."""
    with pytest.raises(
        UnknownTableError, match=r"'itm'.*Did you mean 'item'.*There are: item, tally.*WORKER_MODELS=myapp.models"
    ):
        find_tables((SHOP,), {}).get("itm")


def test_an_unknown_table_among_none_says_so() -> None:
    """Without a registered table there is nothing to offer but how to register one."""
    with pytest.raises(UnknownTableError, match=r"There are none\. Register a table .*WORKER_MODELS="):
        find_tables((), {}).get("item")


def test_an_unknown_module_is_named() -> None:
    """The start stops with the module, the setting and what to do."""
    with pytest.raises(SettingsError, match=r"WORKER_MODELS names 'no_such_app.models'.*For example WORKER_MODELS="):
        find_tables(("no_such_app.models",), {})


@pytest.mark.parametrize("operation", ["read", "upsert", "update", "delete"])
def test_a_table_that_is_not_named_allows_each_operation(operation: str) -> None:
    """WORKER_ALLOW restricts only the tables that it names."""
    tables = find_tables((SHOP,), {"tally": ()})
    assert tables.allowed("item", operation) is tables.get("item")


def test_an_operation_that_is_listed_is_allowed() -> None:
    """What WORKER_ALLOW grants is granted."""
    tables = find_tables((SHOP,), {"item": ("read", "upsert")})
    assert tables.allowed("item", "upsert") is tables.get("item")


def test_an_operation_that_is_not_listed_is_refused() -> None:
    """The message has what is allowed and the setting that would allow more."""
    tables = find_tables((SHOP,), {"item": ("read", "upsert")})
    with pytest.raises(
        NotAllowedError,
        match=r"'delete' on table 'item'; it allows: read, upsert\..*WORKER_ALLOW='{\"item\": \[\"delete",
    ):
        tables.allowed("item", "delete")


def test_an_empty_list_allows_nothing() -> None:
    """A table can be registered and yet closed to payloads."""
    with pytest.raises(NotAllowedError, match="it allows: nothing"):
        find_tables((SHOP,), {"item": ()}).allowed("item", "read")


def test_an_unknown_table_is_unknown_before_it_is_forbidden() -> None:
    """A name that is only in WORKER_ALLOW is still no registered table."""
    with pytest.raises(UnknownTableError, match="'orders'"):
        find_tables((SHOP,), {"orders": ("read",)}).allowed("orders", "delete")


def test_a_transfer_needs_to_be_allowed() -> None:
    """A table that WORKER_ALLOW does not name allows everything but moving money."""
    tables = find_tables(("tests.support.shop_models",), {})
    assert tables.allowed("item", "delete").name == "item"
    with pytest.raises(NotAllowedError, match="transfer:quantity"):
        tables.allowed("item", "transfer:quantity")


def test_the_money_column_is_the_one_that_is_granted() -> None:
    """Configuration says which column of a table is money; a payload never does."""
    tables = find_tables((BANK,), {"account": ("read", "transfer:balance")})
    assert tables.for_transfers("account") == (tables.get("account"), "balance")


@pytest.mark.parametrize(
    ("granted", "said"),
    [
        ({}, r"transfers of no column of table 'account'.*WORKER_ALLOW='{\"account\": \[\"transfer:balance"),
        ({"account": ("upsert",)}, "transfers of no column"),
        ({"account": ("transfer:balance", "transfer:credit")}, "transfers of balance and credit"),
    ],
)
def test_money_without_exactly_one_column_does_not_move(granted: dict[str, tuple[str, ...]], said: str) -> None:
    """No grant, or two, and nobody can say what a transfer is of."""
    with pytest.raises(NotAllowedError, match=said):
        find_tables((BANK,), granted).for_transfers("account")


def test_a_money_column_is_called_as_the_database_calls_it() -> None:
    """A model may have names of its own; a grant of another column gets the nearest one."""
    tables = find_tables((BANK,), {"wallet": ("transfer:cents",), "account": ("transfer:balence",)})
    assert tables.for_transfers("wallet")[1] == "cents"
    with pytest.raises(UnknownColumnError, match="Did you mean 'balance'"):
        tables.for_transfers("account")
