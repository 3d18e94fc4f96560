"""What a `where` means on SQLite: values of each type are compared as the columns keep them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Boolean, Column, Date, DateTime, Integer, MetaData, Numeric, String, Table, Uuid, select

from tests.support.sqlite_tables import SqliteWork, sqlite_work
from worker.core.where import parse_where
from worker.run.where import where_clause

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TABLE = Table(
    "t",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("name", String(20)),
    Column("price", Numeric(12, 2)),
    Column("at", DateTime),
    Column("day", Date),
    Column("done", Boolean),
    Column("code", Uuid),
)


@pytest.fixture
async def work(tmp_path: Path) -> AsyncIterator[SqliteWork]:
    """A file of the test's own, with three rows."""
    async with sqlite_work(tmp_path / "test.db") as found:
        await found.create(TABLE)
        await found.execute(
            "INSERT INTO t VALUES (1, '50% off', 0.1, '2026-01-01 12:00:00.000000', '2026-01-01', 1, NULL), "
            "(2, '500 off', 10, '2026-01-01 13:00:00.000000', NULL, 0, NULL), "
            "(3, 'other', NULL, NULL, NULL, NULL, '00000000000000000000000000000abc')"
        )
        yield found


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ({"name": {"like": "50\\% %"}}, [1]),
        ({"name": {"like": "50%"}}, [1, 2]),
        ({"name": {"eq": "50% off"}}, [1]),
        ({"price": {"eq": "0.1"}}, [1]),
        ({"price": {"between": ["0.11", 10]}}, [2]),
        ({"at": {"eq": "2026-01-01T12:00:00"}}, [1]),
        ({"at": {"eq": "2026-01-01T13:00:00+01:00"}}, [1]),
        ({"at": {"gt": "2026-01-01T12:00:00.000001Z"}}, [2]),
        ({"at": {"older_than": "30m"}}, [1]),
        ({"day": {"ge": "2026-01-01"}}, [1]),
        ({"day": {"older_than": "0d"}}, []),
        ({"done": {"eq": False}}, [2]),
        ({"code": {"in": ["00000000-0000-0000-0000-000000000abc"]}}, [3]),
        ({"not": {"code": {"is_null": True}}}, [3]),
    ],
)
async def test_where(work: SqliteWork, where: Any, ids: list[int]) -> None:
    """A condition means the same rows as on any other database."""
    clause = where_clause(parse_where(where), TABLE, await work.facts(TABLE), NOON + timedelta(hours=1))
    async with work.database.reading() as connection:
        found = await connection.execute(select(TABLE.c.id).where(clause).order_by(TABLE.c.id))
        assert list(found.scalars()) == ids
