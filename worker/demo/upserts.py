"""The first two acts: every flight into an empty table, then the same flights with changes and faults.

Owns these acts. What must come of them is `worker.demo.check`'s.
"""

import asyncio
from pathlib import Path

from worker.demo.check import compare, read_file, read_refused, read_table
from worker.demo.models import Flight
from worker.demo.played import Played
from worker.demo.stage import Stage
from worker.demo.worker_process import WorkerProcess


async def first_act(stage: Stage, worker: WorkerProcess, number: int) -> Played:
    """Every flight, into an empty table."""
    return await _upsert(stage, worker, number, stage.first)


async def second_act(stage: Stage, worker: WorkerProcess, number: int) -> Played:
    """The same flights, every tenth departing a minute later, and malformed rows between them."""
    return await _upsert(stage, worker, number, stage.second, earlier=stage.first)


async def _upsert(
    stage: Stage, worker: WorkerProcess, number: int, source: Path, earlier: Path | None = None
) -> Played:
    client = stage.client
    async with client.database.reading() as connection:
        before = await read_table(connection)
    record = await stage.play(worker, "bulk_upsert", _params(source))
    facts = await asyncio.to_thread(read_file, source, earlier)
    async with client.database.reading() as connection:
        after = await read_table(connection)
        lines = await read_refused(connection, record.id)
    refused = await client.quarantine(record.id)
    return Played(number, record, compare(record, facts, before, after, lines), refused, after.flights)


def _params(source: Path) -> dict[str, object]:
    return {"table": Flight.__tablename__, "source": {"uri": source.resolve().as_uri()}}
