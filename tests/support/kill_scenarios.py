"""The runs that are killed: one a job, or a way of using it. To put a job under the kills, add it to `SCENARIOS`."""

import csv
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from tests.support import bank
from tests.support.filling import (
    ITEM,
    add_check,
    fill,
    fill_old_runs,
    fill_tallies,
    make_kept_items,
    make_staging,
    make_visits,
)
from tests.support.played_runs import KillScenario
from worker.database.tables import MOVES, PROGRESS, QUARANTINE, RUNS
from worker.database.transfer_tables import BOOKS

OF_ONE_RUN = frozenset({"enqueued_ms", "enqueued_at", "started_at", "finished_at", "worker", "crashes"})
"""Columns of the ledger's runs that no two runs share."""

PRICE = Decimal("0.25")

REFUSED = "quantity % 13 <> 5"
"""What the database asks of an item, and some that are to be stored are not."""

VISITED = 7
"""Which of fifty items has been visited."""


def item(number: int, quantity: int, price: Decimal = PRICE) -> dict[str, object]:
    """An item by its number."""
    return {"sku": f"S{number}", "name": f"item {number}", "quantity": quantity, "price": price}


async def make_tallies(connection: AsyncConnection, _: Path, rows: int) -> None:
    """Tallies, all 0."""
    await fill_tallies(connection, rows)


async def make_items(connection: AsyncConnection, folder: Path, rows: int) -> None:
    """A file of items of which some exist, as they are or otherwise, and some are refused."""
    await fill(connection, ITEM, (item(n, n if n % 2 == 0 else 0) for n in range(0, rows + 1, 3)))
    with (folder / "items.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", "name", "quantity", "price"])
        for number in range(rows):
            quantity = "many" if number % 17 == 0 else number
            writer.writerow([f"S{number}", f"item {number}", quantity, "0.25"])


async def make_stock(connection: AsyncConnection, folder: Path, rows: int) -> None:
    """Items, and a file of new quantities for them: some as they are, some of items that nobody has, some refused."""
    await fill(connection, ITEM, (item(n, n) for n in range(rows + 1)))
    with (folder / "stock.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", "quantity"])
        for number in range(0, 2 * rows, 2):
            quantity = "many" if number % 34 == 0 else number + number % 3
            writer.writerow([f"S{number}", quantity])


def of_export(name: str, **params: object) -> KillScenario:
    """A run that exports items into a file, over an old one where that is asked for."""

    def ask(folder: Path, _: int) -> dict[str, object]:
        target = folder / "out" / name
        if params.get("overwrite"):
            target.write_text("what was there before")
        return {"table": "item", "uri": target.as_uri(), **params}

    return KillScenario(name=f"export_rows {name}", job="export_rows", prepare=make_stock, params=ask)


async def make_old_runs(connection: AsyncConnection, _: Path, rows: int) -> None:
    """Finished runs a year old, every third with a refused row, and as many of yesterday."""
    runs = await fill_old_runs(connection, rows)
    refused = [
        {
            "run_id": run["id"],
            "chunk": 1,
            "position": run["enqueued_ms"],
            "reason": "odd",
            "payload": {},
            "created_at": run["finished_at"],
        }
        for run in runs
        if int(str(run["enqueued_ms"])) % 3 == 0
    ]
    await fill(connection, QUARANTINE, refused)


async def make_transfers(connection: AsyncConnection, folder: Path, rows: int) -> None:
    """A file of transfers among seven accounts, of which some are refused, repeated, in conflict, or none at all."""
    await bank.make_accounts(connection, {f"A{number}": 1000 for number in range(7)})
    first = [
        bank.row(f"T{number}", f"A{number % 7}", f"A{number * 3 % 8}", f"{number * 37 % 101}.25", f"number {number}")
        for number in range(rows)
    ]
    again = [
        first[number // 2] | {"reason": "again"} if number % 4 else first[number // 2]
        for number in range(0, rows // 4, 2)
    ]
    bank.write_rows(folder / "transfers.csv", [*first, *again, *(row | {"amount": "1e1"} for row in first[:10])])


async def make_visited_items(connection: AsyncConnection, _: Path, rows: int) -> None:
    """Items, a table of their shape to keep them, and visits that do not let some of them go."""
    await fill(connection, ITEM, (item(n, n, Decimal(1)) for n in range(1, rows + 1)))
    await make_kept_items(connection)
    await make_visits(connection, (f"S{n}" for n in range(1, rows + 1) if n % 50 == VISITED))


async def make_staged_items(connection: AsyncConnection, _: Path, rows: int) -> None:
    """A table of items of which some exist, some do not fit, and some are refused by the database alone."""
    await add_check(connection, "item", REFUSED)
    every = range(1, rows + 1)
    await make_staging(connection, ({"n": n} | item(n, n, Decimal("0.125") if n % 17 == 0 else PRICE) for n in every))
    await fill(connection, ITEM, (item(n, n % 2 * n) for n in every if n % 3 == 0 and n % 2 * n % 13 != 5))


async def make_refused(connection: AsyncConnection, _: Path, rows: int) -> None:
    """Rows that an earlier run put aside: most are sound by now, some are not, and some were replayed already."""
    await add_check(connection, "item", REFUSED)
    now = datetime.now(UTC)
    run = {"id": "earlier", "job": "bulk_upsert", "queue": "arq:queue", "params": {}, "options": {}}
    await fill(connection, RUNS, [run | {"status": "succeeded", "enqueued_ms": 1, "enqueued_at": now}])
    cursor = {"columns": ["sku", "name", "quantity", "price"], "empty_is_text": True, "row": 1}
    await fill(connection, PROGRESS, [{"run_id": "earlier", "cursor": cursor}])
    await fill(connection, QUARANTINE, (refused_row(n, now if n % 7 == 0 else None) for n in range(1, rows + 1)))


def refused_row(number: int, replayed_at: datetime | None) -> dict[str, object]:
    """A row that the earlier run put aside, by its number."""
    quantity = "many" if number % 17 == 0 else str(number)
    return {
        "run_id": "earlier",
        "chunk": 1,
        "position": number,
        "reason": "odd",
        "payload": {"sku": f"S{number}", "name": None, "quantity": quantity, "price": "0.25"},
        "replayed_at": replayed_at,
    }


def of_tallies(job: str) -> KillScenario:
    """A run of a job that adds one to every tally."""
    return KillScenario(name=job, job=job, prepare=make_tallies, params=lambda *_: {}, rows=500)


def of_processor(name: str, *, snapshot: bool) -> KillScenario:
    """A run that gives every tally to a function which adds one."""
    params: dict[str, object] = {"table": "tally", "processor": "one_more", "snapshot": snapshot}
    return KillScenario(name=name, job="stream_process", prepare=make_tallies, params=lambda *_: params, rows=500)


SCENARIOS = (
    of_processor("stream_process", snapshot=False),
    of_processor("stream_process on a snapshot", snapshot=True),
    KillScenario(
        name="transfer_rows",
        job="transfer_rows",
        prepare=make_tallies,
        rows=500,
        params=lambda _, rows: {
            "table": "tally",
            "where": {"id": {"gt": rows // 25}},
            "column": "value",
            "to": 7,
            "reason": "kills",
        },
        audit=(MOVES.name,),
        left_out={MOVES.name: frozenset({"id", "moved_at"})},
    ),
    of_tallies("add_one"),
    KillScenario(
        name="bulk_upsert",
        job="bulk_upsert",
        prepare=make_items,
        params=lambda folder, _: {"table": "item", "source": {"uri": (folder / "items.csv").as_uri()}},
    ),
    of_export("items.csv.gz"),
    of_export("items.ndjson", overwrite=True),
    KillScenario(
        name="batch_update, by where",
        job="batch_update",
        prepare=make_stock,
        params=lambda _, rows: {
            "table": "item",
            "where": {"quantity": {"lt": rows * 2 // 3}},
            "set": {"quantity": rows // 3, "note": "x"},
        },
    ),
    KillScenario(
        name="batch_update, from a source",
        job="batch_update",
        prepare=make_stock,
        params=lambda folder, _: {"table": "item", "source": {"uri": (folder / "stock.csv").as_uri()}},
    ),
    KillScenario(
        name="chunked_delete",
        job="chunked_delete",
        prepare=make_visited_items,
        params=lambda _, rows: {
            "table": "item",
            "where": {"quantity": {"le": rows * 3 // 4}},
            "archive": "kept_item",
        },
        environment={"WORKER_REFLECT": "kept_item"},
        audit=(QUARANTINE.name,),
        left_out={QUARANTINE.name: frozenset({"id", "created_at"})},
    ),
    KillScenario(
        name="chunked_delete_to_a_file",
        job="chunked_delete",
        prepare=make_tallies,
        rows=500,
        params=lambda folder, rows: {
            "table": "tally",
            "where": {"id": {"gt": rows // 10}},
            "archive": (folder / "out" / "old.ndjson.gz").as_uri(),
        },
    ),
    KillScenario(
        name="bulk_upsert_from_a_table",
        job="bulk_upsert",
        prepare=make_staged_items,
        params=lambda *_: {"table": "item", "source": {"table": "staging"}},
        environment={"WORKER_REFLECT": "staging"},
        audit=(QUARANTINE.name,),
        left_out={QUARANTINE.name: frozenset({"id", "created_at"})},
    ),
    KillScenario(
        name="bulk_upsert_of_refused_rows",
        job="bulk_upsert",
        prepare=make_refused,
        params=lambda *_: {"table": "item", "source": {"quarantine": "earlier"}},
        audit=(QUARANTINE.name,),
        left_out={QUARANTINE.name: frozenset({"id", "created_at", "replayed_at"})},
    ),
    KillScenario(
        name="cleanup",
        job="cleanup",
        rows=300,
        prepare=make_old_runs,
        params=lambda *_: {},
        audit=(RUNS.name,),
        left_out={RUNS.name: OF_ONE_RUN},
    ),
    KillScenario(
        name="transfer_funds",
        job="transfer_funds",
        rows=400,
        prepare=make_transfers,
        params=lambda folder, _: {"table": "account", "source": {"uri": (folder / "transfers.csv").as_uri()}},
        environment=bank.ENVIRONMENT,
        audit=tuple(table.name for table in BOOKS),
        left_out={table.name: frozenset({"created_at"}) for table in BOOKS},
    ),
)
"""Runs that kills must not harm."""

BROKEN = (of_tallies("add_one_late"),)
"""Runs that kills do harm: if they are not caught, nothing is."""

BROKEN_BY_TWO_WRITERS = (of_tallies("add_one_apart"),)
"""Likewise, where a transaction can write while another one does."""
