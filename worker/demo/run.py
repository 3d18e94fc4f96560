"""The demonstration's acts, one after the other: set the stage, play, report.

Owns the order of the show. An act is a function that enqueues a run and returns what came of it, so that another act is
another function in `ACTS`.
"""

import asyncio
from typing import Final

from worker.core.errors import HeavyliftError
from worker.demo.changes import fifth_act, fourth_act, third_act
from worker.demo.flights import write_first, write_second
from worker.demo.money import seventh_act, sixth_act
from worker.demo.played import Played
from worker.demo.report import print_report
from worker.demo.stage import Stage
from worker.demo.tables import make_tables
from worker.demo.upserts import first_act, second_act
from worker.demo.worker_process import WorkerProcess, start_worker

ACTS: Final = (first_act, second_act, third_act, fourth_act, fifth_act, sixth_act, seventh_act)
"""The acts, in their order, each announced by its docstring.

Each finds the tables as the one before left them; one that goes wrong is the last.
"""


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
    await make_tables(stage.client.database.engine)
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
