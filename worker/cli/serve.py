"""`heavylift run` and `heavylift migrate`: the worker, and the ledger that it needs."""

import asyncio
import gc
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import typer

from worker.cli.servers import migrate_ledger, use_servers
from worker.core.settings import Settings, misspelt_settings
from worker.main import load_declared, run_worker


def run(*, burst: bool) -> None:
    """Run the worker until it is told to stop.

    Raises:
        HeavyliftError: it could not start.
    """
    for line in misspelt_settings():
        typer.echo(f"warning: {line}", err=True)
    with use_servers() as settings, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        settle_in(settings)
        runner.run(run_worker(settings, burst=burst))


def settle_in(settings: Settings) -> None:
    """Load what a worker needs, and spare the garbage collector looking at it ever again: it stays to the end.

    Args:
        settings: which modules declare jobs and tables.

    Raises:
        SettingsError: one of them cannot be imported.
        DeclarationError: what one declares cannot work.
    """
    load_declared(settings)
    gc.collect()
    gc.freeze()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    # there is no uvloop for Windows and for PyPy; asyncio's own loop does the same, slower
    if find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    return factory


def migrate() -> None:
    """Create or upgrade the ledger and say so.

    Raises:
        UnreachableError: the database did not answer.
        LedgerVersionError: the ledger is newer than this program.
    """
    with use_servers(redis=False, migrated=False) as settings:
        before, now = asyncio.run(migrate_ledger(settings))
    typer.echo(f"ledger: already at {now}" if before == now else f"ledger: {before or 'none'} -> {now}")
