"""The demonstration's acts, one after the other: enqueue, follow, check.

Owns the order of the show. An act is a function that enqueues a run and returns what came of it, so that another act is
another function in `ACTS`.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from rich.console import Console

from worker.client import Client
from worker.core.errors import HeavyliftError
from worker.core.settings import Settings
from worker.database.records import RunRecord
from worker.demo.check import compare, read_file, read_refused, read_table
from worker.demo.flights import write_first, write_second
from worker.demo.models import Flight
from worker.demo.played import Played
from worker.demo.report import print_report
from worker.demo.table import make_table
from worker.demo.worker_process import WorkerProcess, start_worker

WORKER: Final = (sys.executable, "-m", "worker.cli", "run")
"""What starts the worker."""

Follow = Callable[[Client, str, Console], Awaitable[RunRecord]]
"""Waits for a run's end and shows how far it is."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What the acts play on.

    Attributes:
        client: connected, with the settings of `demo_settings`.
        folder: an own one, for the files and the worker's log.
        packed: the package's file, as `find_flights` returns it.
        console: where everything is shown.
        follow: how a run is followed.
        command: what starts the worker.
    """

    client: Client
    folder: Path
    packed: Path
    console: Console
    follow: Follow
    command: tuple[str, ...] = WORKER

    @property
    def first(self) -> Path:
        """The file of the first act."""
        return self.folder / "flights.csv"

    @property
    def second(self) -> Path:
        """The file of the second act."""
        return self.folder / "flights-later.csv"

    @property
    def log(self) -> Path:
        """The file that holds what the worker says."""
        return self.folder / "worker.log"


def demo_settings(settings: Settings, folder: Path) -> Settings:
    """The settings of a demonstration: its own table, files and queue, and otherwise what is configured.

    The queue's name is new each time. So no other worker meets the runs, and this one none that a demonstration which
    was broken off left behind.
    """
    queue = f"heavylift:demo:{uuid4().hex[:8]}"
    own = {"models": (Flight.__module__,), "jobs": ("jobs",), "data_dirs": (folder,), "queue": queue}
    return settings.model_copy(update=own)


async def run_demo(stage: Stage) -> bool:
    """Play every act and show what came of them.

    Returns:
        Whether every check agrees.

    Raises:
        HeavyliftError: it could not be played to the end; where the worker's log is has been shown.
    """
    say = stage.console.print
    stage.folder.mkdir(parents=True, exist_ok=True)
    say(f"Unpacking the flights into {stage.folder}; a missing value, NA there, becomes an empty cell", highlight=False)
    flights = await asyncio.to_thread(write_first, stage.packed, stage.first)
    await asyncio.to_thread(write_second, stage.first, stage.second, flights)
    await make_table(stage.client.database.engine)
    say("Starting a worker process of its own")
    try:
        async with start_worker(stage.command, stage.client.settings, stage.log) as worker:
            played = await _play(stage, worker)
    except HeavyliftError:
        say(f"The worker's log is {stage.log}", highlight=False)
        raise
    print_report(stage.console, played, stage.log)
    return len(played) == len(ACTS) and all(act.right for act in played)


async def _play(stage: Stage, worker: WorkerProcess) -> list[Played]:
    played: list[Played] = []
    for number, act in enumerate(ACTS, start=1):
        stage.console.print(f"\n[bold]Act {number}: {act.__doc__}[/]", highlight=False)
        played.append(await act(stage, worker, number))
        if not played[-1].right:
            break
    return played


async def first_act(stage: Stage, worker: WorkerProcess, number: int) -> Played:
    """Every flight, into an empty table."""
    return await _upsert(stage, worker, number, stage.first)


async def second_act(stage: Stage, worker: WorkerProcess, number: int) -> Played:
    """The same flights, every tenth departing a minute later, and malformed rows between them."""
    return await _upsert(stage, worker, number, stage.second, earlier=stage.first)


ACTS: Final = (first_act, second_act)
"""The acts, in their order, each announced by its docstring.

Each finds the table as the one before left it; one that goes wrong is the last.
"""


async def _upsert(
    stage: Stage, worker: WorkerProcess, number: int, source: Path, earlier: Path | None = None
) -> Played:
    client = stage.client
    async with client.database.engine.connect() as connection:
        before = await read_table(connection)
    run = await client.enqueue("bulk_upsert", _params(source))
    record = await worker.while_alive(stage.follow(client, run.id, stage.console))
    stage.console.print("Checking with plain SQL and plain Python", style="dim")
    facts = await asyncio.to_thread(read_file, source, earlier)
    async with client.database.engine.connect() as connection:
        after = await read_table(connection)
        lines = await read_refused(connection, run.id)
    refused = await client.quarantine(run.id)
    return Played(number, record, compare(record, facts, before, after, lines), refused, after.flights)


def _params(source: Path) -> dict[str, object]:
    return {"table": Flight.__tablename__, "source": {"uri": source.resolve().as_uri()}}
