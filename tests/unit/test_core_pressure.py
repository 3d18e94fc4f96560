"""What a run makes of the pressure on a database: pure, so that every value can be tried."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.pressure import (
    EASE,
    LONGEST_PAUSE_MS,
    Connections,
    Go,
    Indicator,
    Limits,
    LockWaiters,
    Measure,
    Reading,
    ReplicaLag,
    Slow,
    Unread,
    Vacuums,
    Verdict,
    Wait,
    WalBacklog,
    judge,
    settle,
    unreadable,
)

LIMITS = Limits(lock_waiters=5, connections=0.9, wal_segments=42, replica_lag_s=10.0)

GRADED: dict[str, Callable[[int], Measure]] = {
    "locks": LockWaiters,
    "connections": lambda used: Connections(used, 100),
    "wal_archive": WalBacklog,
    "replicas": ReplicaLag,
}
"""The indicators that grow, each made from a number."""

measures = st.one_of(
    st.builds(LockWaiters, st.integers(0, 1000)),
    st.integers(0, 1000).flatmap(lambda usable: st.builds(Connections, st.integers(0, usable), st.just(usable))),
    st.builds(Vacuums, st.frozensets(st.sampled_from(["orders", "items", "shop.orders"]))),
    st.builds(WalBacklog, st.integers(0, 100_000)),
    st.builds(ReplicaLag, st.floats(0, 1e9)),
)
readings = st.builds(Reading, st.lists(measures, max_size=6).map(tuple))


def severity(verdict: Verdict) -> float:
    """0 for going on, up to infinity for waiting."""
    match verdict:
        case Go():
            return 0.0
        case Slow(times=times):
            return times
        case Wait():
            return float("inf")


@pytest.mark.parametrize(
    ("measure", "reason"),
    [
        (LockWaiters(5), "5 sessions wait for locks of this worker (limit 5)"),
        (Connections(90, 100), "90 of 100 connections are in use (limit 90%)"),
        (Vacuums(frozenset({"orders", "shop.orders", "items"})), "a vacuum runs on orders"),
        (WalBacklog(42), "42 WAL segments wait to be archived (limit 42)"),
        (ReplicaLag(12.34), "a replica is 12.3 s behind (limit 10 s)"),
    ],
)
def test_at_the_limit_a_run_waits_and_says_why(measure: Measure, reason: str) -> None:
    """Each indicator at its limit holds the run, with a sentence that names value and limit."""
    assert judge(Reading((measure,)), LIMITS, {"orders"}) == Wait(reason)


def test_one_is_said_in_the_singular() -> None:
    """A reason for one session or one segment reads as a sentence."""
    strict = Limits(lock_waiters=1, connections=1, wal_segments=1, replica_lag_s=1)
    assert judge(Reading((LockWaiters(1),)), strict) == Wait("1 session waits for locks of this worker (limit 1)")
    assert judge(Reading((WalBacklog(1),)), strict) == Wait("1 WAL segment waits to be archived (limit 1)")


@pytest.mark.parametrize(
    "measure", [LockWaiters(0), Connections(60, 100), Vacuums(frozenset({"items"})), WalBacklog(31), ReplicaLag(7.5)]
)
def test_well_below_its_limit_nothing_slows_a_run(measure: Measure) -> None:
    """Up to the share from which runs ease off, and with a vacuum on another table, a run goes on at once."""
    assert judge(Reading((measure,)), LIMITS, {"orders"}) == Go()


def test_the_first_lock_waiter_slows_a_run() -> None:
    """A single session behind this worker's locks is reason enough to give way a little."""
    assert isinstance(judge(Reading((LockWaiters(1),)), LIMITS), Slow)


def test_nothing_read_is_no_pressure() -> None:
    """A database that offers no indicator never holds a run."""
    assert judge(Reading(), LIMITS, {"orders"}) == Go()


@given(name=st.sampled_from(sorted(GRADED)), less=st.integers(0, 10_000), more=st.integers(0, 10_000))
def test_more_pressure_is_never_judged_milder(name: str, less: int, more: int) -> None:
    """Whatever the indicator: from going on over ever longer pauses to waiting."""
    less, more = sorted((less, more))
    milder, harder = (judge(Reading((GRADED[name](value),)), LIMITS) for value in (less, more))
    assert severity(milder) <= severity(harder)


@given(reading=readings, another=measures)
def test_the_worst_indicator_decides(reading: Reading, another: Measure) -> None:
    """A further indicator can only hold a run more, and the verdict is that of one of them alone."""
    both = Reading((*reading.measures, another))
    alone = [severity(judge(Reading((measure,)), LIMITS, {"orders"})) for measure in both.measures]
    assert severity(judge(both, LIMITS, {"orders"})) == max(alone)


@given(reading=readings, took_ms=st.floats(0, 1e6))
def test_a_slowed_run_pauses_in_proportion_and_never_long(reading: Reading, took_ms: float) -> None:
    """A pause is a multiple of the chunk's time, and a second at most."""
    verdict = judge(reading, LIMITS)
    if isinstance(verdict, Slow):
        assert verdict.times > 0
        assert 0 <= verdict.pause_ms(took_ms) <= min(LONGEST_PAUSE_MS, took_ms * verdict.times)


def test_half_way_from_ease_to_the_limit_the_pace_is_halved() -> None:
    """The pause grows from nothing, by way of the chunk's own time, without a bound as the limit comes near."""
    lag = LIMITS.replica_lag_s * (1 + EASE) / 2
    verdict = judge(Reading((ReplicaLag(lag),)), LIMITS)
    assert isinstance(verdict, Slow)
    assert verdict.times == pytest.approx(1)


def test_a_reading_that_fails_after_having_worked_is_pressure() -> None:
    """The run waits, and the reason says what the database answered."""
    unread = Unread(Indicator.LOCKS, "QueryCanceledError: too slow", for_good=False)
    reading, left_out = settle([unread, WalBacklog(0)], {Indicator.LOCKS})
    assert left_out == ()
    assert judge(reading, LIMITS) == Wait("locks could not be read (QueryCanceledError: too slow)")


def test_a_reading_that_never_worked_says_nothing_yet() -> None:
    """It neither holds the run nor is given up."""
    unread = Unread(Indicator.LOCKS, "QueryCanceledError: too slow", for_good=False)
    assert settle([unread, WalBacklog(3)], set()) == (Reading((WalBacklog(3),)), ())


@pytest.mark.parametrize("worked", [set(), {Indicator.WAL_ARCHIVE}])
def test_what_the_role_may_not_read_is_left_out(worked: set[Indicator]) -> None:
    """Whether it was allowed once or never: waiting would not bring it back."""
    refused = Unread(Indicator.WAL_ARCHIVE, "InsufficientPrivilegeError: no", for_good=True)
    assert settle([refused, LockWaiters(0)], worked) == (Reading((LockWaiters(0),)), (refused,))


def test_a_database_that_cannot_be_read_at_all_is_pressure_once_it_could() -> None:
    """No answer from a database that used to answer holds the run; one that never did lets it go on."""
    assert judge(unreadable("TimeoutError", {Indicator.LOCKS}), LIMITS) == Wait(
        "the database could not be read (TimeoutError)"
    )
    assert judge(unreadable("TimeoutError", set()), LIMITS) == Go()
