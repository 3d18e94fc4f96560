"""`heavylift enqueue`: the run's id on standard output, and on request the wait for its end."""

import asyncio
import sys
from dataclasses import dataclass
from datetime import timedelta

import typer
from rich.console import Console

from worker.cli.progress import follow_with_bar
from worker.cli.render import print_json
from worker.cli.servers import connect, use_servers
from worker.cli.wording import one_line, reason
from worker.client import Client
from worker.core.errors import PayloadError
from worker.core.outcomes import Status
from worker.core.settings import Settings
from worker.database.records import RunRecord
from worker.main import load_declared
from worker.queue.wire import DEFAULT_BOUNDS


@dataclass(frozen=True, slots=True)
class Order:
    """What `heavylift enqueue` was asked for.

    Attributes:
        job: its name.
        params: by name.
        run_id: None for a random one.
        delay: None for at once.
        options: run options by name.
        wait: whether to wait for the run's end.
        as_json: whether to print the record instead of the id.
    """

    job: str
    params: dict[str, object]
    run_id: str | None
    delay: timedelta | None
    options: dict[str, object]
    wait: bool
    as_json: bool


def read_params(text: str | None) -> str | None:
    """The parameters' text: as typed, or from standard input where `-` was typed.

    A command line holds some 128 KiB at most, so larger inline rows come that way.

    Raises:
        PayloadError: there is more than any payload may hold.
    """
    if text != "-":
        return text
    found = sys.stdin.buffer.read(DEFAULT_BOUNDS.max_bytes + 1)
    if len(found) > DEFAULT_BOUNDS.max_bytes:
        raise PayloadError(
            f"The parameters on standard input are more than {DEFAULT_BOUNDS.max_bytes:,} bytes. Put the rows in a "
            'file and give its name, for example {"source": {"uri": "file:///data/rows.csv"}}'
        )
    return found.decode(errors="surrogateescape")


def enqueue(order: Order) -> None:
    """Enqueue a run, print its id or record, and wait for its end if asked to.

    Raises:
        HeavyliftError: it cannot be enqueued.
        typer.Exit: the run that was waited for did not succeed.
    """
    with use_servers() as settings:
        record = asyncio.run(_enqueue(order, settings))
    if order.as_json:
        print_json(record)
    if order.wait:
        exit_as(record)


async def _enqueue(order: Order, settings: Settings) -> RunRecord:
    declared = load_declared(settings)
    # without any model configured here, the worker may well know the table
    tables = declared.tables if settings.models or settings.reflect else None
    async with connect(settings, declared.registry, tables) as client:
        record = await client.enqueue(
            order.job, order.params, run_id=order.run_id, delay=order.delay, options=order.options
        )
        if not order.as_json:
            typer.echo(record.id)
            # whoever reads the id from a pipe may want it before the run has ended
            sys.stdout.flush()
        if order.wait:
            record = await _wait(client, record.id)
    return record


async def _wait(client: Client, run_id: str) -> RunRecord:
    try:
        return await follow_with_bar(client, run_id, Console(stderr=True))
    except asyncio.CancelledError:
        # Ctrl-C: the waiting ends, the run does not
        typer.echo(f"the run goes on; follow it with: heavylift watch {one_line(run_id)}", err=True)
        raise


def exit_as(record: RunRecord) -> None:
    """End the command as the run ended: one line and code 1 unless it succeeded.

    Raises:
        typer.Exit: it did not.
    """
    if record.status is Status.SUCCEEDED:
        return
    why = f": {reason(record)}" if reason(record) else ""
    what = "failed" if record.status is Status.FAILED else f"was {record.status.value}"
    typer.echo(f"error: run {one_line(record.id)} {what}{why}", err=True)
    raise typer.Exit(1)
