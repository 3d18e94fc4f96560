"""What is said where the database is lost by somebody who cannot do without it."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from worker.core.errors import UnreachableError
from worker.database.engine import Database


async def test_a_lost_connection_names_the_setting(database: Database) -> None:
    """A worker whose connection is cut while it starts says where it looked and which setting to change."""
    with pytest.raises(UnreachableError, match=r"was lost: .* DATABASE_URL=postgresql\+asyncpg://"):
        async with database.expected_to_answer(), database.engine.connect() as connection:
            await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


async def test_another_error_stays_what_it_is(database: Database) -> None:
    """What the database answers is not taken for its absence."""
    with pytest.raises(ProgrammingError):
        async with database.expected_to_answer(), database.engine.connect() as connection:
            await connection.execute(text("SELECT * FROM nowhere"))
