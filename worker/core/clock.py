"""Time and chance, as values to be passed in: the runtime takes a `Clock` so that tests can give their own."""

import random
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the runtime asks of time and chance."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""
        ...

    def monotonic_ms(self) -> float:
        """Milliseconds from an arbitrary start, never going back."""
        ...

    def rand(self) -> float:
        """Uniform in [0, 1)."""
        ...


class SystemClock:
    """The real ones."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic_ms(self) -> float:
        """Milliseconds from an arbitrary start, never going back."""
        return time.perf_counter() * 1000

    def rand(self) -> float:
        """Uniform in [0, 1)."""
        return random.random()  # noqa: S311 - jitter, not a secret


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970, as arq counts enqueue times and scores."""
    # rounded: 1.123 s is a float a little below 1.123, and the millisecond says which use of an id a run is
    return round(moment.timestamp() * 1000)


def from_ms(milliseconds: float) -> datetime:
    """The aware moment of milliseconds since 1970."""
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
