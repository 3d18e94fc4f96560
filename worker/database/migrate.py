"""The ledger's versions: created and upgraded by Alembic under a lock, checked before any work.

Owns which version this program needs. Refuses to touch any table but the ledger's own.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from worker.core.errors import LedgerVersionError
from worker.database.engine import Database

VERSION_TABLE = "heavylift_version"
SCRIPTS = Path(__file__).parent / "migrations"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    return config


def newest() -> str:
    """The version that this program needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise LedgerVersionError(f"This installation has no migrations in {SCRIPTS.name!r}: install heavylift again")
    return head


def _version(connection: Connection) -> str | None:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


async def migrate(database: Database) -> tuple[str | None, str]:
    """Bring the ledger to the version that this program needs; a second call at the same time waits for the first.

    Returns:
        The version before (None for no ledger) and the version now.

    Raises:
        LedgerVersionError: the ledger is newer than this program.
    """
    async with database.engine.begin() as connection:
        await database.dialect.lock_migrations(connection)
        before = await connection.run_sync(_version)
        if before is not None and before not in _known():
            raise LedgerVersionError(_newer(before))
        await connection.run_sync(_upgrade)
    return before, newest()


async def check_version(database: Database) -> None:
    """Make sure that the ledger is of the version that this program needs.

    Raises:
        LedgerVersionError: it is missing, older or newer; the message says which command to run.
    """
    async with database.reading() as connection:
        found = await connection.run_sync(_version)
    if found == newest():
        return
    if found is None:
        raise LedgerVersionError(f"The database at {database.shown_url} has no ledger yet. Run: heavylift migrate")
    if found in _known():
        raise LedgerVersionError(
            f"The ledger is of version {found}, this program needs {newest()}. Run: heavylift migrate"
        )
    raise LedgerVersionError(_newer(found))


def _known() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _newer(found: str) -> str:
    return (
        f"The ledger is of version {found}, which this program does not know (it needs {newest()}): "
        "a newer heavylift made it. Install that version: pip install --upgrade heavylift"
    )
