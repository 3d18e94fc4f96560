"""What the template of a server holds: the ledger, migrated, and the tables of some models, all empty."""

from collections.abc import Sequence

from pydantic import SecretStr
from sqlmodel import SQLModel

from worker.core.settings import Settings
from worker.database.engine import open_database
from worker.database.migrate import migrate


async def fill_template(url: str, models: Sequence[type[SQLModel]]) -> None:
    """Migrate a database that is empty, and make the tables of some models."""
    database = open_database(Settings(database_url=SecretStr(url)), "template")
    await migrate(database)
    async with database.engine.begin() as connection:
        # each by itself: create_all makes the enum types of all models that any test module has declared
        for model in models:
            await connection.run_sync(model.__table__.create)  # type: ignore[attr-defined]  # SQLModel sets it
    await database.dispose()
