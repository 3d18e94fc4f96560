"""`heavylift quarantine ID --replay`: a new run over the rows that an earlier one put aside."""

import asyncio

import typer

from worker.cli.render import print_json
from worker.cli.servers import connect, use_servers
from worker.cli.wording import one_line
from worker.core.settings import Settings
from worker.database.records import RunRecord
from worker.main import load_declared


def replay(run_id: str, *, as_json: bool) -> None:
    """Enqueue a replay and print its id or record; one line where no row is left to replay, which is no error.

    Raises:
        HeavyliftError: it cannot be replayed.
    """
    with use_servers() as settings:
        record = asyncio.run(_replay(settings, run_id))
    if record is None:
        typer.echo(f"nothing to replay: run {one_line(run_id)} has no refused rows left", err=True)
        if as_json:
            typer.echo("null")
    elif as_json:
        print_json(record)
    else:
        typer.echo(record.id)


async def _replay(settings: Settings, run_id: str) -> RunRecord | None:
    declared = load_declared(settings)
    # without any model configured here, the worker may well know the table
    tables = declared.tables if settings.models else None
    async with connect(settings, declared.registry, tables) as client:
        return await client.replay(run_id)
