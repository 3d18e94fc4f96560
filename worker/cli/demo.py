"""`heavylift demo`: real flights on embedded servers, or on those that are configured.

Owns how the demonstration is started and how it ends the command; the show itself is `worker.demo`.
"""

import asyncio
import signal
from pathlib import Path

import typer
from rich.console import Console

from worker.cli.progress import follow_with_bar
from worker.cli.servers import EMBEDDED, connect, migrate_ledger, use_servers
from worker.core.settings import Settings
from worker.demo.flights import find_flights
from worker.demo.run import run_demo
from worker.demo.stage import Stage, demo_settings
from worker.main import load_declared

FOLDER = EMBEDDED / "demo"
TERMINATED = 128 + signal.SIGTERM


def demo() -> None:
    """Play the demonstration.

    Raises:
        HeavyliftError: it could not be played to the end.
        typer.Exit: a count disagrees, or it was told to stop.
    """
    packed = find_flights()
    try:
        with use_servers(migrated=False) as settings:
            right = asyncio.run(_demo(demo_settings(settings, FOLDER), packed))
    except asyncio.CancelledError:
        raise typer.Exit(TERMINATED) from None
    if not right:
        raise typer.Exit(1)


async def _demo(settings: Settings, packed: Path) -> bool:
    task = asyncio.current_task()
    if task is not None:
        # so that the worker and the servers are stopped then, too
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await migrate_ledger(settings)
    declared = load_declared(settings)
    async with connect(settings, declared.registry, declared.tables) as client:
        return await run_demo(Stage(client, FOLDER, packed, Console(), follow_with_bar))
