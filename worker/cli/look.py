"""`heavylift runs`, `show`, `watch` and `quarantine`: looking, without Redis and without touching any run."""

import asyncio
from datetime import UTC, datetime

import orjson
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from worker.cli.enqueue import exit_as
from worker.cli.progress import follow_with_bar
from worker.cli.render import print_json, print_run, print_runs, runs_table
from worker.cli.servers import connect, use_servers
from worker.cli.wording import moment, one_line
from worker.client import Client
from worker.core.outcomes import Status
from worker.core.settings import Settings
from worker.database.quarantine import QuarantinedRow
from worker.database.records import RunPage, RunRecord

NEWEST = 10
"""How many of the newest runs `watch` shows beside the unfinished ones."""

UNFINISHED = 50
"""How many unfinished runs of each status `watch` shows at most."""

BATCH = 500
"""Refused rows are read so many at a time: a quarantine may hold more than memory does."""


def runs(*, status: Status | None, job: str | None, page: int, size: int, as_json: bool) -> None:
    """Print a page of runs, newest first."""
    with use_servers(redis=False) as settings:
        found = asyncio.run(_runs(settings, status, job, page, size))
    if as_json:
        print_json(found)
        return
    print_runs(found.items, datetime.now(UTC))
    if found.pages > 1:
        typer.echo(f"page {found.page} of {found.pages}, {found.total:,} runs; more with --page or --size", err=True)
    elif not found.items:
        typer.echo("no runs; make one with `heavylift enqueue`", err=True)


async def _runs(settings: Settings, status: Status | None, job: str | None, page: int, size: int) -> RunPage:
    async with connect(settings) as client:
        return await client.runs(status=status, job=job, page=page, size=size)


def show(run_id: str, *, as_json: bool) -> None:
    """Print one run.

    Raises:
        UnknownRunError: the ledger knows none of that id.
    """
    with use_servers(redis=False) as settings:
        record = asyncio.run(_show(settings, run_id))
    if as_json:
        print_json(record)
    else:
        print_run(record, datetime.now(UTC))


async def _show(settings: Settings, run_id: str) -> RunRecord:
    async with connect(settings) as client:
        return await client.get(run_id)


def watch(run_id: str | None) -> None:
    """Follow one run until it has ended, or all of them until interrupted.

    Raises:
        UnknownRunError: the ledger knows none of that id.
        typer.Exit: the run did not succeed.
    """
    with use_servers(redis=False) as settings:
        if run_id is None:
            asyncio.run(_watch_all(settings))
            return
        record = asyncio.run(_watch_one(settings, run_id))
    exit_as(record)


async def _watch_one(settings: Settings, run_id: str) -> RunRecord:
    async with connect(settings) as client:
        return await follow_with_bar(client, run_id, Console(stderr=True))


async def _watch_all(settings: Settings) -> None:
    console = Console()
    async with connect(settings) as client:
        if not console.is_terminal:
            print_runs(await _current(client), client.clock.now())
            return
        with Live(console=console, auto_refresh=False) as live:
            while True:
                table = runs_table(await _current(client), client.clock.now(), console.width)
                ending = Text("Ctrl-C ends this; the runs go on", style="dim")
                live.update(Group(table, ending), refresh=True)
                await asyncio.sleep(1)


async def _current(client: Client) -> list[RunRecord]:
    found = {record.id: record for record in (await client.runs(size=NEWEST)).items}
    for status in Status:
        if not status.finished:
            found.update({record.id: record for record in (await client.runs(status=status, size=UNFINISHED)).items})
    return sorted(found.values(), key=lambda record: (not record.status.finished, record.enqueued_at), reverse=True)


def quarantine(run_id: str, *, as_json: bool) -> None:
    """Print the rows of a run that were refused, each with its reason.

    Raises:
        UnknownRunError: the ledger knows no such run.
    """
    with use_servers(redis=False) as settings:
        asyncio.run(_quarantine(settings, run_id, as_json=as_json))


async def _quarantine(settings: Settings, run_id: str, *, as_json: bool) -> None:
    async with connect(settings) as client:
        await client.get(run_id)
        count, after_id = 0, 0
        while batch := await client.quarantine(run_id, after_id=after_id, limit=BATCH):
            for row in batch:
                typer.echo(_row_as_json(row, first=count == 0) if as_json else _row_as_text(row))
                count += 1
            after_id = batch[-1].id
    if as_json:
        typer.echo("]" if count else "[]")
    else:
        typer.echo(f"{count:,} refused rows", err=True)


def _row_as_json(row: QuarantinedRow, *, first: bool) -> str:
    # one array however many there are, without ever holding them all
    return ("[" if first else ",") + orjson.dumps(row).decode()


def _row_as_text(row: QuarantinedRow) -> str:
    code = f" [{row.sqlstate}{f', {row.constraint}' if row.constraint else ''}]" if row.sqlstate else ""
    again = f" (replayed {moment(row.replayed_at)})" if row.replayed_at else ""
    held = orjson.dumps(row.payload).decode()
    return one_line(f"{row.position}\t{row.reason}{code}{again}\t{held}".replace("\t", "  "))
