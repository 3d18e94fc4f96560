"""Migrations on MariaDB and MySQL, where every statement that defines something commits by itself.

Owns that one runs at a time, that one which was killed half-way goes on where it was, and that the ledger stands on
what keeps its promises. A migration must say everything by operations of Alembic that are skipped here where they are
done, or by statements that may be repeated.
"""

from typing import Any, Final

from alembic.ddl.base import AddColumn, DropColumn
from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateIndex, CreateTable, DropIndex, DropTable
from sqlalchemy.sql.base import Executable

from worker.core.errors import SettingsError
from worker.database.mysql.driver import driver_of

OLDEST_MARIADB: Final = (10, 6)
OLDEST_MYSQL: Final = (8, 0, 29)
"""The first that makes a trigger where it is not there yet; JSON_TABLE and enforced CHECKs came before."""

_WAIT_S: Final = 5
_NAME: Final = "CONCAT('heavylift:', MD5(DATABASE()))"
_LOCK: Final = text(f"SELECT GET_LOCK({_NAME}, {_WAIT_S})")
_RELEASE: Final = f"DO RELEASE_LOCK({_NAME})"

_TABLE: Final = (
    "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s"
)
_INDEX: Final = (
    "SELECT COUNT(*) FROM information_schema.STATISTICS "
    "WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s AND INDEX_NAME = %(name)s"
)
_COLUMN: Final = (
    "SELECT COUNT(*) FROM information_schema.COLUMNS "
    "WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s AND COLUMN_NAME = %(name)s"
)
_ENGINES: Final = text(
    "SELECT TABLE_NAME AS name, ENGINE AS engine FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() "
    "AND TABLE_TYPE = 'BASE TABLE' AND TABLE_NAME LIKE 'heavylift\\_%' AND ENGINE <> 'InnoDB' ORDER BY TABLE_NAME"
)
_NOTHING: Final = text("DO 0")


async def lock_migrations(connection: AsyncConnection) -> None:
    """Hold every other migration of this database off until the transaction ends, and skip what is done already.

    The lock is the session's: it ends with it, whatever happens to the client. It is let go with COMMIT or ROLLBACK.

    Raises:
        SettingsError: the server is too old, or keeps one of the ledger's tables without transactions.
    """
    await connection.run_sync(_refuse_old_server)
    while not (await connection.execute(_LOCK)).scalar_one():
        pass  # each turn waits; the server has a word to say meanwhile
    await connection.run_sync(_release_at_end)
    for line in await foreign_engines(connection):
        raise SettingsError(line)
    await connection.run_sync(_skip_what_is_done)


async def foreign_engines(connection: AsyncConnection) -> list[str]:
    """The ledger's tables that are kept by an engine without transactions, one line each."""
    return [
        f"table {row.name} is kept by {row.engine}, which has no transactions: ALTER TABLE {row.name} ENGINE=InnoDB"
        for row in await connection.execute(_ENGINES)
    ]


def _refuse_old_server(connection: Connection) -> None:
    dialect: Any = connection.dialect
    oldest = OLDEST_MARIADB if dialect.is_mariadb else OLDEST_MYSQL
    found = dialect.server_version_info
    if found < oldest:
        name = "MariaDB" if dialect.is_mariadb else "MySQL"
        raise SettingsError(
            f"The server is {name} {'.'.join(map(str, found))}; {name} {'.'.join(map(str, oldest))} is the oldest "
            "that Heavylift works on. Upgrade it, or name another server, for example "
            "DATABASE_URL=mysql+aiomysql://user:password@localhost/app"
        )


def _release_at_end(connection: Connection) -> None:
    driver_of(connection.connection).ending = (_RELEASE,)


def _skip_what_is_done(connection: Connection) -> None:
    @event.listens_for(connection, "before_execute", retval=True)
    def skip(
        asked: Connection, element: Executable, several: object, parameters: object, _: object
    ) -> tuple[Executable, object, object]:
        return _NOTHING if _is_done(asked, element) else element, several, parameters


def _is_done(connection: Connection, element: object) -> bool:
    match element:
        case CreateTable() | DropTable():
            found = _has(connection, _TABLE, element.element.name)
        case CreateIndex() | DropIndex():
            table = element.element.table
            found = table is not None and _has(connection, _INDEX, table.name, str(element.element.name))
        case AddColumn() | DropColumn():
            found = _has(connection, _COLUMN, element.table_name, element.column.name)
        case _:
            return False
    return found is not isinstance(element, DropTable | DropIndex | DropColumn)


def _has(connection: Connection, query: str, table: str, name: str = "") -> bool:
    found = connection.exec_driver_sql(query, {"table": table, "name": name}).scalar_one()
    return bool(found)
