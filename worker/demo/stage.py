"""What the demonstration's acts play on: a client, a folder of its own, a console, and the worker.

Owns the settings of a demonstration and the playing of one run. Refuses to know what is shown.
"""

import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

from rich.console import Console

from worker.client import Client
from worker.core.settings import TRANSFER, Settings
from worker.database.records import RunRecord
from worker.demo.models import Account, Flight
from worker.demo.worker_process import WorkerProcess

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
        mark: tells this demonstration's transfers from those of another one.
    """

    client: Client
    folder: Path
    packed: Path
    console: Console
    follow: Follow
    command: tuple[str, ...] = WORKER
    mark: str = field(default_factory=lambda: uuid4().hex[:8])

    @property
    def first(self) -> Path:
        """The file of the first act."""
        return self.folder / "flights.csv"

    @property
    def second(self) -> Path:
        """The file of the second act."""
        return self.folder / "flights-later.csv"

    @property
    def exported(self) -> Path:
        """The file that an act makes of the table."""
        return self.folder / "out" / f"flights-{self.mark}.csv.gz"

    @property
    def transfers(self) -> Path:
        """The file of transfers."""
        return self.folder / "transfers.ndjson"

    @property
    def log(self) -> Path:
        """The file that holds what the worker says."""
        return self.folder / "worker.log"

    async def play(self, worker: WorkerProcess, job: str, params: Mapping[str, object]) -> RunRecord:
        """Enqueue a run and follow it to its end.

        Raises:
            UnreachableError: the worker ended before it was done.
        """
        run = await self.client.enqueue(job, params)
        record = await worker.while_alive(self.follow(self.client, run.id, self.console))
        self.console.print("Checking with plain SQL and plain Python", style="dim")
        return record


def demo_settings(settings: Settings, folder: Path) -> Settings:
    """The settings of a demonstration: its own tables, files and queue, and otherwise what is configured.

    The queue's name is new each time. So no other worker meets the runs, and this one none that a demonstration which
    was broken off left behind.
    """
    own = {
        "models": (Flight.__module__,),
        "reflect": (),
        "jobs": ("jobs",),
        "allow": {Account.__tablename__: (f"{TRANSFER}balance",)},
        "data_dirs": (folder,),
        "output_dirs": (folder / "out",),
        "queue": f"heavylift:demo:{uuid4().hex[:8]}",
    }
    return settings.model_copy(update=own)
