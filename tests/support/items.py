"""The table of items in tests: rows put there, looked at, and sent to it by upserts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Executable, Select, Table, insert, select, text
from sqlalchemy.dialects.mysql import VARCHAR
from sqlalchemy.types import TypeEngine

from tests.support.chosen import Backend
from tests.support.shop_models import Item
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database
from worker.database.quarantine import QuarantinedRow, read_quarantine
from worker.database.tables import QUARANTINE

ITEM: Table = Item.__table__  # type: ignore[attr-defined]  # SQLModel sets it

Row = dict[str, object]
Source = Mapping[str, object]


def exact_key(backend: Backend) -> dict[str, TypeEngine[Any]]:
    """The type of a key of items in which no two texts are the same, where the model's is not such a one."""
    return {"sku": VARCHAR(40, collation="utf8mb4_nopad_bin")} if backend == "mariadb" else {}


def greatest_quantity(backend: Backend) -> int:
    """The greatest number that a column of integers takes."""
    return 2**63 - 1 if backend == "sqlite" else 2**31 - 1


def in_chunks_of(settings: Settings, rows: int) -> Settings:
    """Settings under which every chunk has so many rows."""
    return settings.model_copy(update={"chunk_start_rows": rows, "chunk_min_rows": rows, "chunk_max_rows": rows})


def item(sku: str, **values: object) -> Row:
    """A sound row of a source."""
    return {"sku": sku, "name": sku.lower(), "quantity": 1, "price": "1.00", **values}


def inline(*rows: Mapping[str, object]) -> Source:
    """A source of rows that stand in the request."""
    return {"rows": list(rows)}


def upsert(source: Source, run_id: str = "u", *, table: str = "item", **params: object) -> Delivery:
    """A delivery of `bulk_upsert`, on the table of items unless another is named."""
    return Delivery(run_id, "bulk_upsert", {"table": table, "source": source, **params}, {}, "arq:queue", 1)


async def put(database: Database, rows: Iterable[Mapping[str, object]]) -> None:
    """Insert items, given by what matters; the rest is the same for all."""
    filled = {"name": "x", "quantity": 1, "price": 1, "note": None, "shelf": None, "slot": None, "counted_at": None}
    async with database.engine.begin() as connection:
        await connection.execute(insert(ITEM), [{**filled, **row} for row in rows])


async def execute(database: Database, *statements: str | Executable) -> None:
    """Run statements and commit."""
    async with database.engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement) if isinstance(statement, str) else statement)


async def rows(database: Database, query: "str | Select[*tuple[object, ...]]") -> list[tuple[object, ...]]:
    """What a query returns."""
    async with database.engine.connect() as connection:
        found = await connection.execute(text(query) if isinstance(query, str) else query)
        return [tuple(row) for row in found]


async def items(database: Database, *columns: str) -> list[tuple[object, ...]]:
    """Some columns of the table, in the order of the first one."""
    chosen = [ITEM.c[name] for name in columns]
    return await rows(database, select(*chosen).order_by(chosen[0]))


async def stored(database: Database, column: str = "quantity", table: Table = ITEM) -> dict[str, object]:
    """One column of the table by key."""
    return {str(sku): value for sku, value in await rows(database, select(table.c.sku, table.c[column]))}


async def quarantined(database: Database, run_id: str = "u") -> list[QuarantinedRow]:
    """What a run put aside."""
    async with database.engine.connect() as connection:
        return await read_quarantine(connection, run_id, limit=1000)


async def refusals(database: Database, run_id: str, *columns: str) -> Sequence[tuple[object, ...]]:
    """Some columns of what a run put aside, in its order."""
    table = QUARANTINE
    chosen = select(*(table.c[name] for name in columns)).where(table.c.run_id == run_id).order_by(table.c.id)
    return await rows(database, chosen)
