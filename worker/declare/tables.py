"""The tables that jobs may touch: SQLModel classes found in the modules of WORKER_MODELS, by table name.

Owns which tables exist to a payload and what may be done to them. Refuses to look into a database.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module

from sqlalchemy import Table
from sqlmodel import SQLModel

from worker.core.errors import (
    DeclarationError,
    NotAllowedError,
    SettingsError,
    UnknownColumnError,
    UnknownTableError,
    choices,
)

LEDGER_PREFIX = "heavylift_"
TRANSFER = "transfer:"
"""Before the money column in a grant of WORKER_ALLOW."""


@dataclass(frozen=True, slots=True)
class RegisteredTable:
    """A table that payloads may name.

    Attributes:
        name: as payloads write it: the table's name, after `schema.` where it has one.
        table: the SQLAlchemy table: where identifiers come from.
        model: its SQLModel class; None for a reflected table.
    """

    name: str
    table: Table
    model: type[SQLModel] | None


class Tables:
    """Registered tables by name, with what the configuration allows on each.

    Args:
        tables: what is registered.
        allow: operations by table name, as WORKER_ALLOW says; a table that it does not name allows all but transfers.
    """

    def __init__(self, tables: Mapping[str, RegisteredTable], allow: Mapping[str, tuple[str, ...]]) -> None:
        self._tables = dict(tables)
        self._allow = dict(allow)

    def __iter__(self) -> Iterator[RegisteredTable]:
        return iter(self._tables.values())

    def with_more(self, found: Iterable[RegisteredTable]) -> "Tables":
        """These tables and some more, under the same grants."""
        return Tables({**self._tables, **{table.name: table for table in found}}, self._allow)

    def check_allowed_names(self) -> None:
        """See that what is granted is granted on tables that exist.

        Raises:
            SettingsError: WORKER_ALLOW names a table that is not registered: a limit on a misspelt name limits nothing.
        """
        for name in self._allow:
            if name not in self._tables:
                raise SettingsError(
                    f"WORKER_ALLOW names table {name!r}, which is not registered. {choices(name, self._tables)} "
                    "Tables are registered by WORKER_MODELS and WORKER_REFLECT"
                )

    def get(self, name: str) -> RegisteredTable:
        """The table of that name.

        Raises:
            UnknownTableError: none is; the message lists those that are.
        """
        try:
            return self._tables[name]
        except KeyError:
            raise UnknownTableError(name, self._tables) from None

    def allowed(self, name: str, operation: str) -> RegisteredTable:
        """The table of that name, for this operation (`read`, `upsert`, `update`, `delete`, `transfer:<column>`).

        Raises:
            UnknownTableError: no such table.
            NotAllowedError: WORKER_ALLOW names the table without this operation, or does not name it for a transfer.
        """
        found = self.get(name)
        granted = self._allow.get(name)
        # money moves only where the configuration says so
        by_default = granted is None and not operation.startswith(TRANSFER)
        if not by_default and operation not in (granted or ()):
            raise NotAllowedError(
                f"WORKER_ALLOW does not allow {operation!r} on table {name!r}; it allows: "
                f"{', '.join(granted or ()) or 'nothing'}. "
                f'To allow it: WORKER_ALLOW=\'{{"{name}": ["{operation}"]}}\''
            )
        return found

    def for_transfers(self, name: str) -> tuple[RegisteredTable, str]:
        """The table of that name and its money column, the one that WORKER_ALLOW allows transfers of.

        Raises:
            UnknownTableError: no such table.
            NotAllowedError: WORKER_ALLOW grants it no transfers, or those of several columns.
            UnknownColumnError: the column that it grants does not exist.
        """
        found = self.get(name)
        columns = [grant.removeprefix(TRANSFER) for grant in self._allow.get(name, ()) if grant.startswith(TRANSFER)]
        if len(columns) != 1:
            granted = f"of {' and '.join(columns)}" if columns else "of no column"
            raise NotAllowedError(
                f"WORKER_ALLOW allows transfers {granted} of table {name!r}, and it must name exactly one money "
                f'column. For example WORKER_ALLOW=\'{{"{name}": ["{TRANSFER}balance"]}}\''
            )
        if columns[0] not in {column.name for column in found.table.columns}:
            raise UnknownColumnError(name, columns[0], [column.name for column in found.table.columns])
        return found, columns[0]


def check_name(name: str, claimant: str) -> None:
    """See that a table is not one of the ledger's own.

    Args:
        name: the table's, without its schema.
        claimant: who registers it, for the message: the beginning of a sentence.

    Raises:
        DeclarationError: it is.
    """
    if name.startswith(LEDGER_PREFIX):
        raise DeclarationError(f"{claimant}: names with {LEDGER_PREFIX!r} are the ledger's own")


def find_tables(modules: tuple[str, ...], allow: Mapping[str, tuple[str, ...]]) -> Tables:
    """Import modules and register every SQLModel table class that they hold.

    Args:
        modules: dotted names, as WORKER_MODELS lists them.
        allow: as WORKER_ALLOW says.

    Raises:
        SettingsError: a module cannot be imported.
        DeclarationError: two classes claim one name, or one claims the ledger's.
    """
    found: dict[str, RegisteredTable] = {}
    for module in modules:
        for model in _models_of(module):
            table: Table = model.__table__  # type: ignore[attr-defined]  # SQLModel sets it on table classes
            name = table.fullname
            check_name(table.name, f"{model.__name__} claims {name!r}")
            if name in found and found[name].model is not model:
                raise DeclarationError(f"Two models claim table {name!r}: {found[name].model} and {model}")
            found[name] = RegisteredTable(name, table, model)
    return Tables(found, allow)


def _models_of(module: str) -> list[type[SQLModel]]:
    try:
        loaded = import_module(module)
    except ImportError as error:
        raise SettingsError(
            f"WORKER_MODELS names {module!r}, which cannot be imported from here ({error}). "
            "Start in the folder that holds it, or install it. For example WORKER_MODELS=myapp.models"
        ) from error
    return [
        value
        for value in vars(loaded).values()
        if isinstance(value, type) and issubclass(value, SQLModel) and hasattr(value, "__table__")
    ]
