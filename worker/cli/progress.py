"""Following a run until it ends: a live bar on a terminal, a line now and then anywhere else.

Owns what a waiting person sees. It writes to the console it is given, which is that of standard error.
"""

import time
from datetime import timedelta

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from worker.cli.pace import Pace
from worker.cli.wording import counters, duration, one_line, rows, took_s
from worker.client import Client
from worker.core.outcomes import Status
from worker.database.records import RunRecord

HEALTH_KEY = "{queue}:health-check"
"""Where arq's workers say that they live; the key ends with them."""

NO_WORKER = "no worker has picked it up yet: start one with `heavylift run`"


async def follow_with_bar(
    client: Client, run_id: str, console: Console, *, patience_s: float = 10.0, line_every_s: float = 5.0
) -> RunRecord:
    """Follow a run until it has ended, showing how far it is.

    Args:
        client: connected; with Redis, it is also told when no worker is there.
        run_id: the run.
        console: a terminal gets a live bar, anything else plain lines.
        patience_s: how long the run may wait for a worker before that is told, in seconds.
        line_every_s: seconds between plain lines.

    Returns:
        The record of the run as it ended.

    Raises:
        UnknownRunError: the ledger knows none of that id.
    """
    record = await client.get(run_id)
    view = _Bar(console) if console.is_terminal else _Lines(console, line_every_s)
    pace, told = Pace(), False
    with view:
        async for record in client.follow(run_id):
            pace.see(time.monotonic(), record.done)
            view.show(record, _facts(client, record, pace))
            if not told and await _is_lonely(client, record, patience_s):
                console.print(f"note: {NO_WORKER}", markup=False, highlight=False, soft_wrap=True)
                told = True
    return record


class _Bar:
    """Three lines that stay in place: the bar, the facts, the counters."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            console=console,
            expand=True,
        )
        self._task = self._bar.add_task("", total=None)
        self._live = Live(console=console, refresh_per_second=8)

    def __enter__(self) -> None:
        self._live.start()

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, record: RunRecord, facts: str) -> None:
        total = record.total
        if record.status is Status.SUCCEEDED:
            total = max(record.done, 1)
        self._bar.update(
            self._task,
            description=_title(record),
            # nothing to fill where nothing counts rows, and a full bar only for what has ended well
            completed=total if record.status is Status.SUCCEEDED else record.done,
            total=total,
        )
        lines: list[RenderableType] = [self._bar, Text(facts, overflow="ellipsis", no_wrap=True)]
        if record.counters:
            lines.append(Text(counters(record), style="dim", overflow="ellipsis", no_wrap=True))
        self._live.update(Group(*lines), refresh=record.status.finished)


class _Lines:
    """A line each few seconds; a run that is over sooner has none."""

    def __init__(self, console: Console, every_s: float) -> None:
        self._console = console
        self._every_s = every_s
        self._last_s = time.monotonic()

    def __enter__(self) -> None:
        """Nothing is kept in place, so nothing is to be put back."""

    def __exit__(self, *_: object) -> None:
        """Likewise."""

    def show(self, record: RunRecord, facts: str) -> None:
        now_s = time.monotonic()
        if record.status.finished or now_s - self._last_s < self._every_s:
            return
        self._last_s = now_s
        self._console.print(f"{_title(record)}: {facts}", markup=False, highlight=False, soft_wrap=True)


def _title(record: RunRecord) -> str:
    return one_line(f"{record.job} {record.id}")


def _facts(client: Client, record: RunRecord, pace: Pace) -> str:
    taken = took_s(record, client.clock.now())
    # after the end, the whole run's rate: that of the last seconds is no use any more
    rate = record.done / taken if record.status.finished and taken else pace.rows_per_s
    left = None if record.status.finished else pace.left_s(record.total)
    return " · ".join(
        [
            record.status.value,
            *([rows(record)] if record.started_at else []),
            *([f"{rate:,.0f} rows/s"] if rate else []),
            *([duration(taken)] if taken is not None else []),
            *([f"about {duration(left)} left"] if left is not None else []),
            *([one_line(record.waiting_for)] if record.waiting_for else []),
        ]
    )


async def _is_lonely(client: Client, record: RunRecord, patience_s: float) -> bool:
    waits = record.status in {Status.QUEUED, Status.WAITING}
    if client.redis is None or not waits:
        return False
    if client.clock.now() - record.enqueued_at < timedelta(seconds=patience_s):
        return False
    return not await client.redis.exists(HEALTH_KEY.format(queue=client.settings.queue))
