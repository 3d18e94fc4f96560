"""The runs whose memory is measured: one a job, or a way of using it. To put a job to the test, add it to `CASES`."""

import csv
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.support import bank
from tests.support.peak_memory import MemoryCase


def write_items(path: Path, count: int) -> None:
    """A file of `count` items with keys of their own."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", "name", "quantity", "price", "note"])
        writer.writerows(
            [f"S{number:07}", f"item {number}", number, f"{number % 1000}.25", ""] for number in range(count)
        )


async def make_file(_: AsyncConnection, folder: Path, rows: int) -> None:
    """A file of items; the table is empty."""
    write_items(folder / "items.csv", rows)


async def make_staging(connection: AsyncConnection, _: Path, rows: int) -> None:
    """A staging table of items, one in a thousand of which the database refuses."""
    await connection.execute(text("ALTER TABLE item ADD CHECK (quantity % 1000 <> 500)"))
    await connection.execute(
        text("CREATE TABLE staging (n int PRIMARY KEY, sku text, name text, quantity int, price numeric)")
    )
    await connection.execute(
        text("INSERT INTO staging SELECT n, 'S' || n, 'item ' || n, n, 0.25 FROM generate_series(1, :rows) AS n"),
        {"rows": rows},
    )


async def make_tallies(connection: AsyncConnection, _: Path, rows: int) -> None:
    """Tallies, all 0."""
    await connection.execute(
        text("INSERT INTO tally (id, value) SELECT n, 0 FROM generate_series(1, :rows) AS n"), {"rows": rows}
    )


async def make_stock(connection: AsyncConnection, _: Path, rows: int) -> None:
    """Items in the table."""
    await connection.execute(
        text(
            "INSERT INTO item (sku, name, quantity, price)"
            " SELECT 'S' || n, 'item ' || n, n, n % 1000 FROM generate_series(1, :rows) AS n"
        ),
        {"rows": rows},
    )


async def make_transfers(connection: AsyncConnection, folder: Path, rows: int) -> None:
    """A file of transfers around a ring of a thousand accounts."""
    await bank.make_accounts(connection, {f"A{number}": 1000 for number in range(1000)})
    bank.write_rows(
        folder / "transfers.csv",
        (bank.row(f"T{n}", f"A{n % 1000}", f"A{(n + 1) % 1000}", f"{n % 100 + 1}.25") for n in range(rows)),
    )


CASES = (
    MemoryCase(
        name="bulk_upsert",
        job="bulk_upsert",
        prepare=make_file,
        params=lambda folder: {"table": "item", "source": {"uri": (folder / "items.csv").as_uri()}},
        many=2_000_000,
    ),
    MemoryCase(
        name="batch_update",
        job="batch_update",
        prepare=make_tallies,
        params=lambda _: {"table": "tally", "where": {"id": {"gt": 0}}, "set": {"value": 1}},
    ),
    MemoryCase(
        name="export_rows",
        job="export_rows",
        prepare=make_stock,
        params=lambda folder: {"table": "item", "uri": (folder / "out" / "items.csv.gz").as_uri()},
    ),
    MemoryCase(
        name="transfer_funds",
        job="transfer_funds",
        prepare=make_transfers,
        params=lambda folder: {"table": "account", "source": {"uri": (folder / "transfers.csv").as_uri()}},
        few=20_000,
        many=200_000,
        environment=bank.ENVIRONMENT,
    ),
    MemoryCase(
        name="chunked_delete",
        job="chunked_delete",
        prepare=make_tallies,
        params=lambda folder: {"table": "tally", "archive": (folder / "out" / "old.csv.gz").as_uri()},
        options={"all": True},
    ),
    MemoryCase(
        name="bulk_upsert_from_a_table",
        job="bulk_upsert",
        prepare=make_staging,
        params=lambda _: {"table": "item", "source": {"table": "staging"}},
        environment={"WORKER_REFLECT": "staging"},
    ),
    MemoryCase(
        name="stream_process on a snapshot",
        job="stream_process",
        prepare=make_tallies,
        params=lambda _: {"table": "tally", "processor": "look", "snapshot": True},
    ),
    # row by row through the ORM, as a user's own job may: ten times slower than a shipped one
    MemoryCase(name="add_one", job="add_one", prepare=make_tallies, params=lambda _: {}, few=20_000, many=200_000),
)
