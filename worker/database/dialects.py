"""Which database a URL means: its driver, and the package that keeps the promises on it.

Owns the list, and that a driver is loaded only where its database is used. The only place outside of those packages
that knows them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Final

from sqlalchemy import URL

from worker.core.errors import SettingsError
from worker.database.dialect import Dialect

EXAMPLE: Final = "For example DATABASE_URL=postgresql+asyncpg://user:password@localhost/app"


@dataclass(frozen=True, slots=True)
class _Known:
    """A database that is supported.

    Attributes:
        driver: SQLAlchemy's name of database and driver.
        module: the package's module with its class.
        name: that class.
        extra: what to install for it; None where its driver comes along anyway.
    """

    driver: str
    module: str
    name: str
    extra: str | None = None


_POSTGRES: Final = _Known("postgresql+asyncpg", "worker.database.postgres.dialect", "Postgres")
# SQLAlchemy asks the server which of the two it is: one name does for both, and what is compiled for "mysql" holds
_MYSQL: Final = _Known("mysql+aiomysql", "worker.database.mysql.dialect", "MySql", "mysql")
_KNOWN: Final[Mapping[str, _Known]] = {
    "postgresql": _POSTGRES,
    "postgres": _POSTGRES,
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
    "sqlite": _Known("sqlite+aiosqlite", "worker.database.sqlite.dialect", "Sqlite", extra="sqlite"),
}


def find_dialect(url: URL) -> tuple[URL, Dialect]:
    """The dialect for a URL, and the URL with the driver that the dialect means.

    Raises:
        SettingsError: it names a database that is not supported, or whose driver is not installed.
    """
    known = _KNOWN.get(url.get_backend_name())
    if known is None:
        raise SettingsError(
            f"DATABASE_URL names {url.get_backend_name()!r}, which is not supported yet; supported: "
            f"{', '.join(sorted(_KNOWN))}. {EXAMPLE}"
        )
    driver = known.driver.partition("+")[2]
    if find_spec(driver) is None:
        raise SettingsError(
            f"DATABASE_URL names {url.get_backend_name()!r}, whose driver {driver} is not installed: "
            f"pip install 'heavylift[{known.extra}]'"
        )
    dialect: Dialect = getattr(import_module(known.module), known.name)()
    return url.set(drivername=known.driver), dialect
