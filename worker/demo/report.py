"""What the demonstration shows at its end: each check, the refused rows, and the counts in one table.

Owns layout. Refuses to judge: a check knows whether it is right.
"""

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.core.outcomes import Status
from worker.database.records import RunRecord
from worker.demo.check import Fact
from worker.demo.played import Played

UPSERT: Final = "bulk_upsert"
COUNTERS: Final = ("read", "inserted", "updated", "unchanged", "duplicates", "quarantined")


def print_report(console: Console, acts: Sequence[Played], log: Path) -> None:
    """Print it all, the verdict last."""
    console.print("\n[bold]Every check[/]")
    console.print(_checks(acts))
    for act in acts:
        if act.refused:
            console.print(f"\n[bold]Rows that act {act.number} put into quarantine[/]", highlight=False)
            console.print(_refused(act))
    console.print("\n[bold]What the worker counted, and what plain SQL counts[/]")
    console.print(_summary([act for act in acts if act.record.job == UPSERT]))
    others = [act for act in acts if act.record.job != UPSERT]
    if others:
        console.print(_others(others))
    _print_verdict(console, acts, log)


def _print_verdict(console: Console, acts: Sequence[Played], log: Path) -> None:
    for act in acts:
        if act.record.status is not Status.SUCCEEDED and act.record.error is not None:
            error = act.record.error
            console.print(Text(f"Act {act.number} {act.record.status}: {error.type}: {error.message}"), soft_wrap=True)
    checks = [check for act in acts for check in act.checks]
    wrong = sum(not check.right for check in checks)
    if wrong:
        console.print(Text(f"\n{wrong} of {len(checks)} checks are WRONG", style="bold red"))
    else:
        console.print(Text(f"\nAll {len(checks)} checks are OK", style="bold green"))
    console.print(Text(f"The worker's log: {log}\nThe runs: heavylift runs"), soft_wrap=True)


def _table(*columns: str, right: Container[str]) -> Table:
    """A table without lines, which fits into 80 columns."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table


def _summary(acts: Sequence[Played]) -> Table:
    columns = (*COUNTERS, "rows/s", "count(*)")
    table = _table("act", *columns, right=columns)
    for act in acts:
        counters = [_text(act.record.counters.get(name)) for name in COUNTERS]
        table.add_row(str(act.number), *counters, _rate(act.record), _text(act.table_rows))
    return table


def _others(acts: Sequence[Played]) -> Table:
    table = _table("act", "job", "what it counted", "rows/s", right={"rows/s"})
    for act in acts:
        counted = ", ".join(f"{name} {_text(amount)}" for name, amount in act.record.counters.items())
        table.add_row(str(act.number), act.record.job, counted, _rate(act.record))
    return table


def _checks(acts: Sequence[Played]) -> Table:
    sides = ("the job", "the file (Python)", "the table (SQL)")
    table = _table("act", "what", *sides, "", right=sides)
    for act in acts:
        for check in act.checks:
            verdict = Text("OK", style="green") if check.right else Text("WRONG", style="bold red")
            table.add_row(str(act.number), check.what, *map(_text, (check.job, check.file, check.sql)), verdict)
    return table


def _refused(act: Played) -> Table:
    table = _table("line", "why it was refused", right={"line"})
    for row in act.refused:
        table.add_row(_text(row.position), Text(row.reason))
    return table


def _text(value: Fact | None) -> str:
    match value:
        case None:
            return ""
        case int():
            return f"{value:,}"
        case str():
            return value
        case _:
            return "\n".join(f"{line:,}" for line in value) or "none"


def _rate(record: RunRecord) -> str:
    if record.started_at is None or record.finished_at is None:
        return ""
    seconds = (record.finished_at - record.started_at).total_seconds()
    return f"{record.done / seconds:,.0f}" if seconds else ""
