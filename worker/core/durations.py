"""Durations as people write them: `90d`, `12h`, `1h30m`.

Owns the notation, wherever it is used: on the command line, in a where, in a policy.
"""

import re
from datetime import timedelta
from typing import Final

LONGEST: Final = timedelta(days=36_500)
"""A hundred years: what is longer is a slip, and the calendar ends somewhere."""

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{1,6})?[smhdw])+")
_PART: Final = re.compile(r"([0-9.]+)([smhdw])")


def parse_duration(text: str, *, longest: timedelta = LONGEST) -> timedelta:
    """The duration that a text such as `30s`, `5m`, `1h30m`, `90d` or `2w` means.

    Args:
        text: numbers, each followed by s, m, h, d or w.
        longest: what it may be at most.

    Raises:
        ValueError: it is no duration, or too long; the message says so in one sentence without an example.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is no duration; give a number and s, m, h, d or w")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if seconds > longest.total_seconds():
        raise ValueError(f"{text!r} is longer than {longest.days // 365} years")
    return timedelta(seconds=seconds)
