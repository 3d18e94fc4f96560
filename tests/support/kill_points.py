"""Where a worker process of the tests kills itself: at its n-th step, counted from its start.

A step is a statement sent (savepoints are), a COMMIT, or a call that makes a file last. Owns the counting, the trace of
the steps and the kill. Refuses to choose the point, and changes nothing else of the process that it is installed in.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Self

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect

from worker.queue.restoring import FILLING

KILL = "HEAVYLIFT_TEST_KILL"
"""The variable that holds a kill point."""

TRACE = "HEAVYLIFT_TEST_TRACE"
"""The variable that names the file for the steps; without it nothing is installed."""

COMMIT = "COMMIT"
FILE_STEPS = ("fsync", "fdatasync", "replace", "rename", "link")
"""What of `os` makes a file's contents or its name last."""

_SHOWN = 90


class Moment(StrEnum):
    """When, as seen from one step, the process is killed."""

    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class KillPoint:
    """One kill.

    Attributes:
        number: the step's, from 1.
        moment: right before it; while it is under way, or between it and the next one at the latest; right after it.
        late_s: for `during`, how long after the step's beginning, in seconds.
        since: the text of the step that is number 1, or a part of it; empty for the process's first one.
    """

    number: int
    moment: Moment
    late_s: float = 0.0
    since: str = ""

    def __str__(self) -> str:
        return f"{self.number}:{self.moment}:{self.late_s:g}:{self.since}"

    @classmethod
    def parse(cls, written: str) -> Self:
        """What `str` made."""
        number, moment, late_s, since = written.split(":", 3)
        return cls(int(number), Moment(moment), float(late_s), since)


class StepCounter:
    """Counts the steps of this process, writes them down as they begin, and kills it at one of them.

    Args:
        trace: the file for the steps; what is written survives the process.
        kill: the point; None only counts.
    """

    def __init__(self, trace: Path, kill: KillPoint | None) -> None:
        self._trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self._kill = kill
        self._number = 0
        # files are synced in threads
        self._lock = threading.Lock()

    def begin(self, step: str) -> None:
        """A step is about to be taken."""
        if _is_the_sweeps():
            return
        text = " ".join(step.split())
        kill = self._kill
        with self._lock:
            os.write(self._trace, f"{text[:_SHOWN]}\n".encode())
            if kill is not None and (self._number or kill.since in text):
                self._number += 1
            number = self._number
        if kill is None or number < kill.number:
            return
        # a step that fails has no end, and a thread may wait for its turn: the next step is not taken all the same
        if number > kill.number or kill.moment is Moment.BEFORE:
            _die()
        if kill.moment is Moment.DURING:
            threading.Thread(target=_die_in, args=(kill.late_s,), daemon=True).start()

    def end(self) -> None:
        """A step has been taken."""
        if _is_the_sweeps():
            return
        kill = self._kill
        if kill is not None and kill.moment is Moment.AFTER and self._number >= kill.number:
            _die()


def _is_the_sweeps() -> bool:
    """Whether a step is none of the run's: Redis is compared with the ledger beside it, at its own pace."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        # no loop runs in this thread
        return False
    return task is not None and task.get_name() == FILLING


def install(environment: Mapping[str, str]) -> None:
    """Count this process's steps, and kill it at one of them, where the environment says so.

    Args:
        environment: `TRACE` names the file for the steps, `KILL` is the point, if there is to be one.
    """
    if TRACE not in environment:
        return
    steps = StepCounter(Path(environment[TRACE]), KillPoint.parse(environment[KILL]) if KILL in environment else None)

    def before(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        steps.begin(statement)

    event.listen(Engine, "before_cursor_execute", before)
    event.listen(Engine, "after_cursor_execute", lambda *_: steps.end())
    # the event `commit` comes before the commit, and there is none after it
    _count_calls(steps, DefaultDialect, "do_commit", lambda _: COMMIT)
    for name in FILE_STEPS:
        _count_calls(steps, os, name, partial("os.{} {}".format, name))


def read_trace(path: Path) -> list[str]:
    """The steps that a process began, in order."""
    return path.read_text().splitlines()


def _count_calls(steps: StepCounter, owner: object, name: str, describe: Callable[[object], str]) -> None:
    call: Callable[..., object] = getattr(owner, name)

    def counted(first: object, *others: object, **named: object) -> object:
        steps.begin(describe(first))
        result = call(first, *others, **named)
        steps.end()
        return result

    setattr(owner, name, counted)


def _die_in(seconds: float) -> None:
    time.sleep(seconds)
    _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
