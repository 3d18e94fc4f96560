"""Texts for people: amounts, durations, moments, and text of unknown origin made safe for a terminal."""

from datetime import datetime

from worker.database.records import RunRecord

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def printable(text: str) -> str:
    """A text whose control characters, a terminal's escapes among them, are spelt out."""
    return "".join(mark if mark.isprintable() or mark in "\n\t" else repr(mark)[1:-1] for mark in text)


def one_line(text: str) -> str:
    """A text as one printable line; its lines are joined by `; `."""
    return printable("; ".join(part.strip() for part in text.splitlines() if part.strip())).replace("\t", " ")


def duration(seconds: float) -> str:
    """A duration such as `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min` or `4 d 3 h`."""
    if seconds < 10:  # noqa: PLR2004 - below, a tenth matters
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def moment(when: datetime | None) -> str:
    """A moment in this machine's time zone, to the second; nothing for None."""
    return "" if when is None else when.astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def rows(record: RunRecord) -> str:
    """How far a run is: `1,200 of 5,000 rows`, or `1,200 rows` while the total is unknown."""
    if record.total is None:
        return f"{record.done:,} rows"
    return f"{record.done:,} of {record.total:,} rows"


def counters(record: RunRecord) -> str:
    """A run's counters in one line: `read 10 · inserted 7 · ...`."""
    return " · ".join(f"{printable(name)} {amount:,}" for name, amount in record.counters.items())


def took_s(record: RunRecord, now: datetime) -> float | None:
    """Seconds since a run first started, up to its end; None before."""
    if record.started_at is None:
        return None
    return ((record.finished_at or now) - record.started_at).total_seconds()


def reason(record: RunRecord) -> str:
    """Why a run failed, waits or was cancelled, in one line; empty where there is nothing to say."""
    if record.waiting_for:
        return one_line(record.waiting_for)
    # a run that succeeded after a retry keeps its last error; that is no news
    if record.error is not None and record.status.value != "succeeded":
        return one_line(f"{record.error.type}: {record.error.message}")
    return ""
