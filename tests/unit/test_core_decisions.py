"""The pure decisions: backoff, what follows from an error, and how large the next chunk is."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.chunk_size import GROWTH, ChunkBounds, after_overload, next_size
from worker.core.errors import Cancel, ErrorKind, Retry, Snooze, StaleFenceError, Stop
from worker.core.outcomes import (
    STATUS_AFTER,
    TRANSITIONS,
    Cancelled,
    ErrorRecord,
    Failed,
    Interrupted,
    LeaseLost,
    Outcome,
    Paused,
    RetryAt,
    Snoozed,
    Status,
)
from worker.core.retry import IN_PLACE_TRIES, RetryPolicy, backoff_s, decide, in_place_pause_s

NOW = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
RECORD = ErrorRecord("SomeError", "it happened", None, "")
TRANSIENT = [kind for kind in ErrorKind if kind.transient]
rand = st.floats(0, 1, exclude_max=True)


def decided(error: Exception, kind: ErrorKind = ErrorKind.PERMANENT, failures: int = 0, rand: float = 0.5) -> Outcome:
    """The decision under a policy of three attempts."""
    policy = RetryPolicy(max_attempts=3, base_s=1, cap_s=60)
    return decide(error, kind, RECORD, failures=failures, policy=policy, now=NOW, rand=rand)


@given(failures=st.integers(1, 10_000), base=st.floats(0.001, 100), cap=st.floats(0.001, 1e6), share=rand)
def test_backoff_is_within_its_ceiling(failures: int, base: float, cap: float, share: float) -> None:
    """Backoff is never negative, never above the cap and never above the exponential."""
    pause = backoff_s(failures, base, cap, share)
    assert 0 <= pause <= cap
    assert pause <= base * 2.0 ** min(failures - 1, 60)


@given(failures=st.integers(1, 100), share=rand)
def test_backoff_grows_with_failures(failures: int, share: float) -> None:
    """For the same luck a later failure never waits less."""
    assert backoff_s(failures, 1, 60, share) <= backoff_s(failures + 1, 1, 60, share)


def test_jitter_is_full() -> None:
    """The least luck waits not at all and the most nearly the whole ceiling."""
    assert backoff_s(5, 1, 60, 0) == 0
    assert backoff_s(5, 1, 60, 0.999) == pytest.approx(16 * 0.999)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Stop("interrupt"), Interrupted()),
        (Stop("pause"), Paused()),
        (Stop("cancel"), Cancelled("cancelled on request")),
        (Cancel("enough"), Cancelled("enough")),
        (StaleFenceError("newer"), LeaseLost()),
        (Snooze(timedelta(hours=1)), Snoozed(NOW + timedelta(hours=1))),
        (Snooze(NOW + timedelta(days=1)), Snoozed(NOW + timedelta(days=1))),
        (Snooze(60, "the shop is closed"), Snoozed(NOW + timedelta(minutes=1), "the shop is closed")),
    ],
)
@pytest.mark.parametrize("failures", [0, 99])
def test_what_was_asked_for_happens_whatever_failed_before(error: Exception, outcome: Outcome, failures: int) -> None:
    """Stops, snoozes, cancellations and lost leases never run out of attempts."""
    assert decided(error, failures=failures) == outcome


def test_retry_waits_as_long_as_it_says() -> None:
    """`Retry(after)` names its own delay, and None leaves it to the backoff."""
    assert decided(Retry(90)) == RetryAt(NOW + timedelta(seconds=90), RECORD)
    assert decided(Retry(), rand=0.5) == RetryAt(NOW + timedelta(seconds=0.5), RECORD)


@pytest.mark.parametrize("kind", [ErrorKind.PERMANENT, ErrorKind.REFUSED_ROW])
def test_a_permanent_error_fails_at_once(kind: ErrorKind) -> None:
    """Trying again would end the same way."""
    assert decided(ValueError("no"), kind) == Failed(RECORD)


@pytest.mark.parametrize("kind", TRANSIENT)
def test_a_transient_error_is_tried_until_attempts_run_out(kind: ErrorKind) -> None:
    """The last of the attempts fails with the original error."""
    assert [type(decided(OSError(), kind, failures)) for failures in range(3)] == [RetryAt, RetryAt, Failed]


def test_what_a_person_must_free_is_asked_for_slowly() -> None:
    """A full disk waits at least half of the longest pause, from the first time on."""
    outcome = decided(OSError(), ErrorKind.EXHAUSTED, rand=0)
    assert outcome == RetryAt(NOW + timedelta(seconds=30), RECORD)


@given(kind=st.sampled_from(list(ErrorKind)), tries=st.integers(0, 20), share=rand)
def test_pauses_in_place_are_short_and_few(kind: ErrorKind, tries: int, share: float) -> None:
    """In place an error is met a few times at most, and for a few seconds; others end the attempt."""
    pause = in_place_pause_s(kind, tries, share)
    if not kind.transient or kind is ErrorKind.EXHAUSTED or tries >= IN_PLACE_TRIES:
        assert pause is None
    else:
        assert pause is not None
        assert 0 <= pause <= 3.2


def test_every_outcome_has_a_status_that_may_follow_running() -> None:
    """An attempt can end in each of the eight outcomes, and its run's status may then be what it says."""
    assert len(STATUS_AFTER) == 8
    assert set(STATUS_AFTER.values()) <= TRANSITIONS[Status.RUNNING]
    assert set(TRANSITIONS) == set(Status)


BOUNDS = ChunkBounds(start=500, least=10, most=20_000, target_ms=100)


@given(size=st.integers(10, 20_000), share=st.floats(0, 1), took_ms=st.floats(0, 1e7))
def test_a_chunk_stays_in_bounds_and_grows_slowly(size: int, share: float, took_ms: float) -> None:
    """Whatever a chunk took, the next is within the bounds and at most a fifth larger."""
    following = next_size(size, int(size * share), took_ms, BOUNDS)
    assert BOUNDS.least <= following <= BOUNDS.most
    assert following <= max(size * GROWTH, size + 1)


def test_a_slow_chunk_shrinks_at_once() -> None:
    """A chunk that took ten times too long is followed by one of a tenth."""
    assert next_size(5000, 5000, 1000, BOUNDS) == 500


def test_a_short_chunk_tells_nothing() -> None:
    """The few rows at the end of a source neither grow nor shrink what fitted."""
    assert next_size(5000, 3, 1, BOUNDS) == 5000
    assert next_size(500, 250, 1, BOUNDS) == 500
    assert next_size(500, 0, 500, BOUNDS) == 500


def test_overload_halves() -> None:
    """After a timeout half is tried, never less than the least."""
    assert after_overload(1000, BOUNDS) == 500
    assert after_overload(11, BOUNDS) == 10


@given(cost_ms=st.floats(0.006, 5), fixed_ms=st.floats(0, 20))
def test_chunks_come_to_the_target(cost_ms: float, fixed_ms: float) -> None:
    """Where each row costs the same, sizes settle where a chunk takes about the target."""
    size = BOUNDS.start
    for _ in range(60):
        size = next_size(size, size, fixed_ms + size * cost_ms, BOUNDS)
    took_ms = fixed_ms + size * cost_ms
    assert size == BOUNDS.least or 60 <= took_ms <= 125
