"""Tables filled, made like others and checked more strictly, in the words of whichever database they are in."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Column, ForeignKey, Integer, MetaData, Numeric, String, Table, UniqueConstraint, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.support.shop_models import Item, Tally
from tests.support.spelling import spelling_of
from worker.database.tables import RUNS

ITEM: Final[Table] = Item.__table__  # type: ignore[attr-defined]  # SQLModel sets it
TALLY: Final[Table] = Tally.__table__  # type: ignore[attr-defined]  # likewise

AT_ONCE = 1000
"""Rows of one INSERT."""


async def fill(connection: AsyncConnection, table: Table, rows: Iterable[Mapping[str, object]]) -> None:
    """Insert rows, all with the same columns, in a transaction of the caller's."""
    listed = list(rows)
    for first in range(0, len(listed), AT_ONCE):
        await connection.execute(insert(table), listed[first : first + AT_ONCE])


async def fill_tallies(connection: AsyncConnection, most: int, first: int = 1) -> None:
    """Insert tallies, all 0."""
    await fill(connection, TALLY, ({"id": n, "value": 0} for n in range(first, most + 1)))


async def make_kept_items(connection: AsyncConnection) -> None:
    """Make the table `kept_item`, for items that leave their own."""
    kept = ITEM.to_metadata(MetaData(), name="kept_item")
    kept.constraints -= {constraint for constraint in kept.constraints if isinstance(constraint, UniqueConstraint)}
    await connection.run_sync(kept.create)


async def make_staging(connection: AsyncConnection, rows: Iterable[Mapping[str, object]]) -> None:
    """Make the table `staging`, where items wait whose price may have a digit more than an item's, and fill it."""
    staging = Table(
        "staging",
        MetaData(),
        Column("n", Integer, primary_key=True, autoincrement=False),
        Column("sku", String(40)),
        Column("name", String(200)),
        Column("quantity", Integer),
        Column("price", Numeric(12, 3)),
    )
    await connection.run_sync(staging.create)
    await fill(connection, staging, rows)


async def make_visits(connection: AsyncConnection, skus: Iterable[str]) -> None:
    """Make the table `visit`, whose rows refer to items and do not let them go, and fill it."""
    visit = Table("visit", MetaData(), Column("sku", String(40), ForeignKey(ITEM.c.sku), primary_key=True))
    await connection.run_sync(visit.create)
    await fill(connection, visit, ({"sku": sku} for sku in skus))


async def add_check(connection: AsyncConnection, table: str, condition: str) -> None:
    """Have a table refuse rows for which a condition does not hold; those that it has must."""
    for statement in spelling_of(connection.dialect.name).with_check(table, condition):
        await connection.execute(text(statement))


async def fill_old_runs(connection: AsyncConnection, count: int) -> list[dict[str, object]]:
    """Write so many finished runs of a year ago and as many of yesterday into the ledger; returns them."""
    now = datetime.now(UTC)
    ages = {"old": now - timedelta(days=365), "young": now - timedelta(days=1)}
    runs: list[dict[str, object]] = [
        {
            "id": f"{age}-{n}",
            "job": "add_one",
            "queue": "arq:queue",
            "params": {},
            "options": {},
            "status": "succeeded",
            "enqueued_ms": n,
            "enqueued_at": day,
            "finished_at": day,
        }
        for age, day in ages.items()
        for n in range(1, count + 1)
    ]
    await fill(connection, RUNS, runs)
    return runs
