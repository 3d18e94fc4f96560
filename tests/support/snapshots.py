"""What a run has left behind, as values that can be compared: tables, its record, refused rows, files.

Owns what counts in a comparison. Leaves out what no two runs share: moments, fences, workers, generated numbers.
"""

import gzip
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sqlalchemy import ColumnClause, Connection, column, inspect, select, table

from worker import Client
from worker.database.tables import QUARANTINE
from worker.declare.tables import LEDGER_PREFIX

Rows = list[tuple[object, ...]]
ReadFiles = Callable[[Path], Mapping[str, object]]

COUNTED = ("status", "result", "error", "counters")
"""What of a run's record counts, however often it was tried, and whatever else was in the tables that it walked."""

QUARANTINED = ("chunk", "position", "reason", "sqlstate", "constraint_name", "payload")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The effects of a run, or of several.

    Attributes:
        record: how each ended and what it counted.
        tables: the rows of every table outside of the ledger, and of those of the ledger that were asked for.
        quarantine: the rows that it refused.
        files: what it wrote, by name.
    """

    record: Mapping[str, object]
    tables: Mapping[str, Rows]
    quarantine: Rows
    files: Mapping[str, object]

    def facts(self) -> Counter[str]:
        """Everything that it holds, a line each, and how often."""
        rows = [(table, row) for table, found in self.tables.items() for row in found]
        refused = [("quarantine", row) for row in self.quarantine]
        return Counter(
            f"{name}: {value!r}" for name, value in [*self.record.items(), *rows, *refused, *self.files.items()]
        )

    def differences(self, other: Self) -> list[str]:
        """What this one holds and the other does not, after a +, and the other way round, after a -."""
        mine, others = self.facts(), other.facts()
        return [f"+ {fact}" for fact in (mine - others).elements()] + [
            f"- {fact}" for fact in (others - mine).elements()
        ]


def read_files(folder: Path) -> dict[str, object]:
    """Every file below a folder by its name, unpacked where it is packed."""
    return {
        str(path.relative_to(folder)): gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


async def take_snapshot(
    client: Client,
    run_id: str,
    *,
    audit: tuple[str, ...],
    left_out: Mapping[str, frozenset[str]],
    files: Mapping[str, object],
) -> Snapshot:
    """Read what a run has left behind, in how many attempts.

    Args:
        client: of the run's database.
        run_id: the run.
        audit: tables of the ledger that belong to the run's effects.
        left_out: by table, the columns that no two runs share.
        files: what it wrote, as read by the caller.
    """
    found = await client.get(run_id)
    record = found.model_dump(include={*COUNTED, "done", "total", "attempts"})
    return await _snapshot(client, record, QUARANTINED, audit=audit, left_out=left_out, files=files)


async def take_snapshots(
    client: Client,
    run_ids: Sequence[str],
    *,
    audit: tuple[str, ...],
    left_out: Mapping[str, frozenset[str]],
    files: Mapping[str, object],
) -> Snapshot:
    """Read what several runs have left behind together, in however many attempts; see `take_snapshot`."""
    found = [await client.get(run_id) for run_id in run_ids]
    record = {
        f"{run.id} {name}": value for run in found for name, value in run.model_dump(include=set(COUNTED)).items()
    }
    return await _snapshot(client, record, ("run_id", *QUARANTINED), audit=audit, left_out=left_out, files=files)


async def _snapshot(
    client: Client,
    record: Mapping[str, object],
    quarantined: Sequence[str],
    *,
    audit: tuple[str, ...],
    left_out: Mapping[str, frozenset[str]],
    files: Mapping[str, object],
) -> Snapshot:
    async with client.database.reading() as connection:
        tables = await connection.run_sync(_read_tables, audit, left_out)
        refused = await connection.execute(select(*(QUARANTINE.c[name] for name in quarantined)))
        here = client.database.engine.url.database or ""
        return Snapshot(
            record=record,
            tables={name: _anywhere(rows, here) for name, rows in tables.items()},
            quarantine=_anywhere(_sorted(refused), here),
            files=files,
        )


def _read_tables(
    connection: Connection, audit: tuple[str, ...], left_out: Mapping[str, frozenset[str]]
) -> dict[str, Rows]:
    seen = inspect(connection)
    names = [name for name in seen.get_table_names() if not name.startswith(LEDGER_PREFIX)]
    found = {}
    for name in sorted([*names, *audit]):
        # without their types: as the driver gives them, which rounds nothing
        columns: list[ColumnClause[object]] = [
            column(each["name"]) for each in seen.get_columns(name) if each["name"] not in left_out.get(name, ())
        ]
        found[name] = _sorted(connection.execute(select(*columns).select_from(table(name))))
    return found


def _sorted(rows: Iterable[Sequence[object]]) -> Rows:
    # what a row holds need not be comparable: a None, or JSON
    return sorted((tuple(row) for row in rows), key=repr)


def _anywhere(rows: Rows, database: str) -> Rows:
    """Without the name of the database, which some tell with a reason, and no two runs share."""
    return [tuple(value.replace(database, "") if isinstance(value, str) else value for value in row) for row in rows]
