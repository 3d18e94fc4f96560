"""The demonstration's checks fail for whatever one side says wrongly."""

from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.flight_package import CANCELLED_EVERY, FLIGHTS, write_packed
from worker.core.outcomes import Status
from worker.database.records import RunRecord
from worker.demo.check import FileFacts, Totals, compare, read_file
from worker.demo.flights import LATER_EVERY, MALFORMED, write_first, write_second

LATER = sum(number % LATER_EVERY == 0 and number % CANCELLED_EVERY != 0 for number in range(1, FLIGHTS + 1))
COUNTERS = {
    "read": FLIGHTS + len(MALFORMED),
    "inserted": 0,
    "updated": LATER,
    "unchanged": FLIGHTS - LATER,
    "duplicates": 0,
    "quarantined": len(MALFORMED),
}


def record(counters: dict[str, int], status: Status = Status.SUCCEEDED) -> RunRecord:
    """A run that ended with those counters."""
    return RunRecord.model_validate(
        {
            **dict.fromkeys(RunRecord.model_fields),
            **dict.fromkeys(("done", "attempts", "interruptions", "crashes", "fence", "chunk_rows"), 1),
            "id": "a-run",
            "job": "bulk_upsert",
            "params": {},
            "notes": [],
            "enqueued_at": datetime.now(UTC),
            "status": status,
            "counters": counters,
        }
    )


@pytest.fixture
def both(tmp_path: Path) -> tuple[FileFacts, FileFacts]:
    """What plain Python reads in the files of the two acts."""
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    write_second(first, second, write_first(write_packed(tmp_path / "flights.csv.zip"), first))
    return read_file(first), read_file(second, first)


def wrong(
    facts: tuple[FileFacts, FileFacts], counters: dict[str, int], table: Totals, lines: tuple[int, ...]
) -> list[str]:
    """What is found to be wrong with the second act."""
    checks = compare(record(counters), facts[1], facts[0].totals, table, lines)
    return [check.what for check in checks if not check.right]


def test_plain_python_reads_what_was_written(both: tuple[FileFacts, FileFacts]) -> None:
    """Records, malformed lines and changed flights are those that the second file was made with."""
    first, second = both
    spread = FLIGHTS // (len(MALFORMED) + 1)
    assert (first.records, first.malformed, first.changed) == (FLIGHTS, (), FLIGHTS)
    assert second.malformed == tuple(spread * n + n + 1 for n in range(1, len(MALFORMED) + 1))
    assert (second.records, second.changed) == (FLIGHTS + len(MALFORMED), LATER)
    assert second.totals == replace(first.totals, departure_delays=first.totals.departure_delays + LATER)


def test_true_counts_are_right(both: tuple[FileFacts, FileFacts]) -> None:
    """A job that counts as it should, and a table that holds what it should, pass every check."""
    assert not wrong(both, COUNTERS, both[1].totals, both[1].malformed)


@pytest.mark.parametrize("counter", COUNTERS)
def test_a_miscounting_job_is_wrong(both: tuple[FileFacts, FileFacts], counter: str) -> None:
    """A counter that is one off is found, by its name."""
    counters = {**COUNTERS, counter: COUNTERS[counter] + 1}
    assert counter in wrong(both, counters, both[1].totals, both[1].malformed)


@pytest.mark.parametrize("total", [field.name for field in fields(Totals)])
def test_a_table_that_adds_up_otherwise_is_wrong(both: tuple[FileFacts, FileFacts], total: str) -> None:
    """Any total of the table that is one off is found."""
    table = replace(both[1].totals, **{total: getattr(both[1].totals, total) + 1})
    assert wrong(both, COUNTERS, table, both[1].malformed)


def test_another_line_in_quarantine_is_wrong(both: tuple[FileFacts, FileFacts]) -> None:
    """As many refused rows as there should be, and one of them another line's, is found."""
    lines = (both[1].malformed[0] + 1, *both[1].malformed[1:])
    assert wrong(both, COUNTERS, both[1].totals, lines) == ["lines in quarantine"]


def test_a_failed_run_is_wrong(both: tuple[FileFacts, FileFacts]) -> None:
    """A run that did not succeed is wrong whatever it counted."""
    checks = compare(record({}, Status.FAILED), both[0], Totals(), Totals(), ())
    assert [(check.what, check.right) for check in checks] == [("status", False)]
