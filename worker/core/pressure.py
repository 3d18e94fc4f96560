"""How much pressure a database is under, and what a run makes of it: on at once, slower, or not before it is less.

Pure: what was read is passed in, a verdict comes out. Refuses to look at a database, to know one, and to wait.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, assert_never

EASE = 0.75
"""The share of a limit from which runs slow down: below it a busy database is left to be busy."""

LONGEST_PAUSE_MS = 1000.0
"""The longest pause after one chunk, in milliseconds: a slowed run goes on at its pace, it does not stand."""


class Indicator(StrEnum):
    """What can be under pressure. The values are those of WORKER_GOVERNOR."""

    LOCKS = "locks"
    CONNECTIONS = "connections"
    VACUUM = "vacuum"
    WAL_ARCHIVE = "wal_archive"
    REPLICAS = "replicas"


@dataclass(frozen=True, slots=True)
class LockWaiters:
    """How many sessions of others wait for a lock that this worker holds."""

    indicator: ClassVar[Indicator] = Indicator.LOCKS
    sessions: int


@dataclass(frozen=True, slots=True)
class Connections:
    """How many connections are in use, of those that the server has for ordinary clients.

    This worker's own idle ones are not among the used: to hold its runs would not free them.
    """

    indicator: ClassVar[Indicator] = Indicator.CONNECTIONS
    used: int
    usable: int


@dataclass(frozen=True, slots=True)
class Vacuums:
    """The tables that a vacuum is at work on, each by every name that a run may know it by: `orders`, `shop.orders`."""

    indicator: ClassVar[Indicator] = Indicator.VACUUM
    tables: frozenset[str]


@dataclass(frozen=True, slots=True)
class WalBacklog:
    """How many finished WAL segments wait to be archived; 0 where none is to be."""

    indicator: ClassVar[Indicator] = Indicator.WAL_ARCHIVE
    segments: int


@dataclass(frozen=True, slots=True)
class ReplicaLag:
    """How far the slowest replica is behind, in seconds; 0 where there is none."""

    indicator: ClassVar[Indicator] = Indicator.REPLICAS
    seconds: float


Measure = LockWaiters | Connections | Vacuums | WalBacklog | ReplicaLag
"""What one indicator says."""


@dataclass(frozen=True, slots=True)
class Unread:
    """An indicator that could not be read.

    Attributes:
        indicator: which one.
        error: what the database said.
        for_good: the role may not take this reading, or the server has none of it: asking again would not help.
    """

    indicator: Indicator
    error: str
    for_good: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read at one moment.

    Attributes:
        measures: what the indicators said.
        failed: one sentence for each reading that worked before and failed now.
    """

    measures: tuple[Measure, ...] = ()
    failed: tuple[str, ...] = ()


def settle(found: Iterable[Measure | Unread], worked: Collection[Indicator]) -> tuple[Reading, tuple[Unread, ...]]:
    """What a look at the database amounts to.

    Args:
        found: what each indicator said, or why it could not be read.
        worked: the indicators that were read before.

    Returns:
        The reading, and the indicators to be left out from now on. One that failed after having worked counts as
        pressure: a database that has no time to answer is under some. One that never worked says nothing yet.
    """
    everything = tuple(found)
    unread = tuple(one for one in everything if isinstance(one, Unread))
    failed = tuple(
        f"{one.indicator} could not be read ({one.error})"
        for one in unread
        if one.indicator in worked and not one.for_good
    )
    measures = tuple(one for one in everything if not isinstance(one, Unread))
    return Reading(measures, failed), tuple(one for one in unread if one.for_good)


def unreadable(error: str, worked: Collection[Indicator]) -> Reading:
    """What a look amounts to that failed as a whole; `error` says how."""
    return Reading(failed=(f"the database could not be read ({error})",) if worked else ())


@dataclass(frozen=True, slots=True)
class Limits:
    """Where runs wait; from `EASE` of it on they slow down, lock waiters from the first.

    Attributes:
        lock_waiters: sessions behind this worker's locks. Few: each is somebody's request, and letting go helps it.
        connections: a share of those for ordinary clients. Beyond it newcomers are soon refused.
        wal_segments: GitLab's figure for its migrations: more than an archive that keeps up ever has.
        replica_lag_s: beyond it, what was just written is missed by those who read from replicas.
    """

    lock_waiters: int
    connections: float
    wal_segments: int
    replica_lag_s: float


@dataclass(frozen=True, slots=True)
class Go:
    """On at once."""


@dataclass(frozen=True, slots=True)
class Slow:
    """On after a pause.

    Attributes:
        reason: what is under pressure.
        times: how often the last chunk's time goes into the pause: 1 halves the pace.
    """

    reason: str
    times: float

    def pause_ms(self, took_ms: float) -> float:
        """How long to pause after a chunk that took so long."""
        return min(LONGEST_PAUSE_MS, took_ms * self.times)


@dataclass(frozen=True, slots=True)
class Wait:
    """Not before there is less pressure. `reason` says what is under it."""

    reason: str


Verdict = Go | Slow | Wait
"""The closed set. `match` on it ends with `assert_never`."""


def judge(reading: Reading, limits: Limits, tables: Collection[str] = ()) -> Verdict:
    """What a run is to do next: whatever is under the most pressure decides.

    Args:
        reading: the database's.
        limits: the worker's.
        tables: the names of the tables that the run works on.
    """
    if reading.failed:
        return Wait("; ".join(reading.failed))
    weighed = [_weigh(measure, limits, tables) for measure in reading.measures]
    load, reason = max(weighed, default=(0.0, ""))
    if load >= 1:
        return Wait(reason)
    return Slow(reason, (load - EASE) / (1 - load)) if load > EASE else Go()


def _weigh(measure: Measure, limits: Limits, tables: Collection[str]) -> tuple[float, str]:
    """The load on an indicator, 1 at its limit, and the sentence that says so."""
    match measure:
        case LockWaiters(sessions):
            load = EASE + (1 - EASE) * sessions / limits.lock_waiters if sessions else 0.0
            said = _count(sessions, "session waits", "sessions wait")
            return load, f"{said} for locks of this worker (limit {limits.lock_waiters})"
        case Connections(used, usable):
            load = used / (max(usable, 1) * limits.connections)
            return load, f"{used} of {usable} connections are in use (limit {limits.connections:.0%})"
        case Vacuums(found):
            busy = sorted(found.intersection(tables))
            return float(bool(busy)), f"a vacuum runs on {', '.join(busy)}"
        case WalBacklog(segments):
            load = segments / limits.wal_segments
            said = _count(segments, "WAL segment waits", "WAL segments wait")
            return load, f"{said} to be archived (limit {limits.wal_segments})"
        case ReplicaLag(seconds):
            load = seconds / limits.replica_lag_s
            return load, f"a replica is {seconds:.1f} s behind (limit {limits.replica_lag_s:g} s)"
        case _:
            assert_never(measure)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
