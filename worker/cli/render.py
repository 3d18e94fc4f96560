"""Runs as text: a table of many, the whole of one, JSON for scripts.

Owns layout. A terminal gets a table; a pipe gets a tab-separated line a run, so that `cut` and `awk` can read it.
"""

import json
import shlex
from collections.abc import Iterable
from datetime import datetime

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.cli.wording import counters, duration, moment, one_line, printable, reason, rows, took_s
from worker.core.outcomes import Status
from worker.database.records import RunRecord

STYLES = {
    Status.QUEUED: "cyan",
    Status.RUNNING: "blue",
    Status.WAITING: "yellow",
    Status.PAUSED: "magenta",
    Status.SUCCEEDED: "green",
    Status.FAILED: "red",
    Status.CANCELLED: "dim",
}

COLUMNS = ("id", "job", "status", "rows", "rows/s", "enqueued", "took", "note")
RIGHT = frozenset({"rows", "rows/s", "took"})

DROPPED = ((150, ()), (100, ("rows/s", "enqueued")), (0, ("rows/s", "enqueued", "took")))
"""Which columns a table of at least so many characters does without: the id must stay whole, to be copied."""


def print_json(value: BaseModel) -> None:
    """One JSON object in one line on standard output."""
    typer.echo(value.model_dump_json())


def print_runs(records: Iterable[RunRecord], now: datetime) -> None:
    """Runs on standard output: a table on a terminal, tab-separated lines without a header in a pipe."""
    console = Console()
    if console.is_terminal:
        console.print(runs_table(records, now, console.width))
        return
    for record in records:
        typer.echo("\t".join(_cells(record, now)))


def runs_table(records: Iterable[RunRecord], now: datetime, width: int) -> Table:
    """A table for a terminal of `width` characters, a run a row; a long note is cut."""
    dropped = next(names for least, names in DROPPED if width >= least)
    kept = [number for number, name in enumerate(COLUMNS) if name not in dropped]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (COLUMNS[number] for number in kept):
        # only what may wrap is made narrower: the note, whose texts then cut themselves
        table.add_column(name, justify="right" if name in RIGHT else "left", no_wrap=name != "note")
    for record in records:
        cells = [Text(cell, no_wrap=True, overflow="ellipsis") for cell in _cells(record, now)]
        cells[COLUMNS.index("status")].stylize(STYLES[record.status])
        table.add_row(*(cells[number] for number in kept))
    return table


def _cells(record: RunRecord, now: datetime) -> list[str]:
    taken = took_s(record, now)
    done = f"{record.done:,}" if record.total is None else f"{record.done:,}/{record.total:,}"
    return [
        one_line(record.id),
        one_line(record.job),
        record.status.value,
        done,
        f"{record.done / taken:,.0f}" if taken and record.done else "",
        moment(record.enqueued_at),
        "" if taken is None else duration(taken),
        reason(record),
    ]


def print_run(record: RunRecord, now: datetime) -> None:
    """All there is to say of one run, on standard output, for people: facts, what to do next, the traceback last."""
    console = Console()
    for name, value in _fields(record, now):
        if value:
            style = STYLES[record.status] if name == "status" else ""
            console.print(Text.assemble((f"{name:<14}", "bold"), (value, style)), soft_wrap=True)
    for note in record.notes:
        console.print(Text.assemble(("note          ", "bold"), one_line(note)), soft_wrap=True)
    for hint in _hints(record):
        console.print(Text.assemble(("next          ", "bold"), hint), soft_wrap=True)
    if record.error is not None and record.error.traceback:
        console.print(Text(f"\n{printable(record.error.traceback).rstrip()}"), soft_wrap=True)


def _code(code: str) -> str:
    # five characters are a SQLSTATE; databases that have numbers of their own are quoted by these
    return f"SQLSTATE {code}" if len(code) == 5 else f"error {code}"  # noqa: PLR2004 - the standard's length


def _fields(record: RunRecord, now: datetime) -> list[tuple[str, str]]:
    taken, error = took_s(record, now), record.error
    codes = [] if error is None or not error.sqlstate else [_code(error.sqlstate)]
    if error is not None and error.constraint:
        codes.append(f"constraint {error.constraint}")
    by = f" by {one_line(record.enqueued_by)}" if record.enqueued_by else ""
    return [
        ("id", one_line(record.id)),
        ("job", one_line(record.job)),
        ("status", record.status.value),
        ("waiting for", one_line(record.waiting_for or "")),
        ("progress", rows(record) + (f", {record.done / taken:,.0f} rows/s" if taken and record.done else "")),
        ("counters", counters(record)),
        ("result", "" if record.result is None else _json(record.result)),
        ("error", "" if error is None else one_line(f"{error.type}: {error.message}")),
        ("error codes", one_line(", ".join(codes))),
        ("params", _json(record.params)),
        ("cursor", "" if record.cursor is None else _json(record.cursor)),
        ("next chunk", f"{record.chunk_rows:,} rows" if record.chunk_rows and not record.status.finished else ""),
        ("attempts", f"{record.attempts}, interruptions {record.interruptions}, crashes {record.crashes}"),
        ("worker", f"{one_line(record.worker)}, fence {record.fence}" if record.worker else ""),
        ("enqueued", moment(record.enqueued_at) + by),
        ("started", moment(record.started_at)),
        ("finished", moment(record.finished_at)),
        ("took", "" if taken is None else duration(taken)),
    ]


def _json(value: object) -> str:
    return printable(json.dumps(value, ensure_ascii=False))


def _hints(record: RunRecord) -> list[str]:
    run_id = shlex.quote(one_line(record.id))
    hints = []
    if record.status is Status.QUEUED:
        hints.append("a worker has yet to pick it up; start one: heavylift run")
    if not record.status.finished:
        hints.append(f"follow it: heavylift watch {run_id}")
    if record.counters.get("quarantined"):
        hints.append(f"see the refused rows: heavylift quarantine {run_id}")
    if record.status is Status.FAILED:
        params = shlex.quote(_json(record.params))
        hints.append(
            f"what its chunks committed stays; with the cause removed: heavylift enqueue {record.job} {params}"
        )
    return hints
