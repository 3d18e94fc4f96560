"""Runs of every job at once, in one database: each has rows of its own, so that their order does not matter.

Owns the tables, the files and the list of runs, in waves: a wave has each job once, on rows that no other wave touches
(`add_one` alone adds to the same tallies each time, which is a sum whatever the order). What they leave behind is the
same as if one worker had done them in peace. Refuses to disturb them.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from tests.conftest import MODELS
from tests.support import bank
from tests.support.filling import ITEM, add_check, fill, fill_old_runs, fill_tallies, make_kept_items, make_staging
from tests.support.snapshots import Snapshot, read_files, take_snapshots
from worker import Client
from worker.database.tables import MOVES, RUNS
from worker.database.transfer_tables import BOOKS

ROWS = 40
"""Of each run."""

PRICE = Decimal("0.25")
"""Of an item, unless the database is to refuse it."""

LATE = frozenset({"delete", "move", "tally"})
"""The runs of a wave that are deferred."""

DEFERRED = timedelta(seconds=1)
"""How long they have to wait."""

KINDS = ["upsert", "update", "stock", "delete", "pack", "export", "move", "process", "stream"]
"""The first part of an item's key, by the run that it belongs to."""

ENVIRONMENT: Mapping[str, str] = {
    "WORKER_MODELS": f"{MODELS},{bank.BANK}",
    "WORKER_ALLOW": json.dumps(bank.ALLOW),
    "WORKER_REFLECT": "kept_item,staging",
    "WORKER_CHUNK_START_ROWS": "20",
    "WORKER_CHUNK_MIN_ROWS": "20",
    "WORKER_CHUNK_MAX_ROWS": "20",
    "WORKER_POLL_S": "0.05",
    "WORKER_LEASE_S": "2",
    "WORKER_CONCURRENCY": "6",
    "WORKER_BACKOFF_BASE_S": "0.2",
    "WORKER_BACKOFF_CAP_S": "2",
    "WORKER_MAX_CRASHES": "1000",
}
"""Settings of its workers: chunks are cut alike, whatever happens, and no number of kills is too many."""

LEFT_OUT: Mapping[str, frozenset[str]] = {
    RUNS.name: frozenset(RUNS.columns.keys()) - {"id", "job", "params", "options", "status", "result", "enqueued_by"},
    MOVES.name: frozenset({"id", "moved_at"}),
    **{table.name: frozenset({"created_at"}) for table in BOOKS},
}
"""By table of the ledger, the columns that depend on moments and on what went wrong on the way."""


@dataclass(frozen=True, slots=True)
class Request:
    """A run to be asked for, at once or deferred."""

    run_id: str
    job: str
    params: Mapping[str, object]
    delay: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """So many waves of runs.

    Attributes:
        folder: where files are; written below `out` in it.
        waves: how many.
    """

    folder: Path
    waves: int

    @property
    def out(self) -> Path:
        """The folder that runs write to."""
        return self.folder / "out"

    @property
    def environment(self) -> dict[str, str]:
        """Settings of its workers."""
        return {
            **ENVIRONMENT,
            "WORKER_DATA_DIRS": str(self.folder),
            "WORKER_OUTPUT_DIRS": str(self.out),
        }

    async def prepare(self, connection: AsyncConnection) -> None:
        """Fill the tables of all waves, and write their files."""
        self.out.mkdir(exist_ok=True)
        await add_check(connection, "item", "price <> 0.13")
        await fill_tallies(connection, 3 * ROWS)
        await fill(connection, ITEM, self._items())
        await make_kept_items(connection)
        await make_staging(connection, _staged())
        await fill_old_runs(connection, ROWS)
        accounts = {f"{wave}-{number}": 1000 for wave in range(self.waves) for number in range(5)}
        await bank.make_accounts(connection, accounts)
        for wave in range(self.waves):
            self._write_items(wave)
            self._write_stock(wave)
            self._write_transfers(wave)

    def _items(self) -> Iterator[dict[str, object]]:
        for kind in KINDS:
            for wave in range(self.waves):
                for n in range(1, ROWS + 1):
                    yield {"sku": f"{kind}-{wave}-{n}", "name": "old", "quantity": n, "price": PRICE}

    def wave(self, number: int) -> list[Request]:
        """The runs of one wave; the first one has those that a database has once."""
        requests = [
            Request(f"{name}-{number}", job, params, DEFERRED if name in LATE else None)
            for name, (job, params) in self._params(number).items()
        ]
        if number == 0:
            requests += [
                Request("cleanup", "cleanup", {}),
                Request("staged", "bulk_upsert", {"table": "item", "source": {"table": "staging"}}),
            ]
        return requests

    def _params(self, wave: int) -> dict[str, tuple[str, dict[str, object]]]:
        def of(kind: str) -> dict[str, object]:
            return {"table": "item", "where": {"sku": {"like": f"{kind}-{wave}-%"}}}

        def file(name: str) -> dict[str, object]:
            return {"source": {"uri": (self.folder / f"{name}-{wave}.csv").as_uri()}}

        out = self.out
        return {
            "upsert": ("bulk_upsert", {"table": "item", **file("items")}),
            "update": ("batch_update", {**of("update"), "set": {"note": "seen", "quantity": 7}}),
            "stock": ("batch_update", {"table": "item", **file("stock")}),
            "delete": ("chunked_delete", {**of("delete"), "archive": "kept_item"}),
            "pack": ("chunked_delete", {**of("pack"), "archive": (out / f"pack-{wave}.ndjson.gz").as_uri()}),
            "export": ("export_rows", {**of("export"), "uri": (out / f"export-{wave}.csv").as_uri()}),
            "move": ("transfer_rows", {**of("move"), "column": "shelf", "to": 7, "reason": "chaos"}),
            "process": ("stream_process", {**of("process"), "processor": "one_more_each"}),
            "stream": ("stream_process", {**of("stream"), "processor": "one_more_each", "snapshot": True}),
            "tally": ("add_one", {}),
            "money": ("transfer_funds", {"table": "account", **file("transfers")}),
        }

    def _write_items(self, wave: int) -> None:
        with (self.folder / f"items-{wave}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["sku", "name", "quantity", "price"])
            for number in range(2 * ROWS):
                writer.writerow([f"upsert-{wave}-{number}", "new", "many" if number % 17 == 3 else number, "0.25"])

    def _write_stock(self, wave: int) -> None:
        with (self.folder / f"stock-{wave}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["sku", "quantity"])
            for number in range(2 * ROWS):
                writer.writerow([f"stock-{wave}-{number}", number + number % 3])

    def _write_transfers(self, wave: int) -> None:
        rows = [
            bank.row(f"{wave}-{number}", f"{wave}-{number % 5}", f"{wave}-{number * 3 % 6}", f"{number * 97 % 301}.25")
            for number in range(2 * ROWS)
        ]
        bank.write_rows(self.folder / f"transfers-{wave}.csv", [*rows, *rows[: ROWS // 4]])

    @property
    def run_ids(self) -> list[str]:
        """All runs."""
        return [request.run_id for wave in range(self.waves) for request in self.wave(wave)]

    async def enqueue(self, client: Client, wave: int) -> None:
        """Ask for the runs of one wave."""
        for one in self.wave(wave):
            await client.enqueue(one.job, one.params, run_id=one.run_id, delay=one.delay)

    async def snapshot(self, client: Client) -> Snapshot:
        """What all runs have left behind."""
        audit = (RUNS.name, MOVES.name, *(table.name for table in BOOKS))
        files = read_files(self.out)
        return await take_snapshots(client, self.run_ids, audit=audit, left_out=LEFT_OUT, files=files)


def _staged() -> Iterator[dict[str, object]]:
    for n in range(1, 3 * ROWS + 1):
        price = Decimal("0.13") if n % 17 == 0 else PRICE
        yield {"n": n, "sku": f"staged-{n}", "name": "new", "quantity": n, "price": price}
