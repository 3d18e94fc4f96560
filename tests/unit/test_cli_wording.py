"""Amounts, durations and foreign text as people read them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from rich.console import Console

from worker.cli.pace import WINDOW_S, Pace
from worker.cli.render import print_run, print_runs, runs_table
from worker.cli.wording import duration, one_line, reason, rows, took_s
from worker.core.outcomes import Status
from worker.database.records import RunError, RunRecord

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def make_record() -> Callable[..., RunRecord]:
    """Makes a run record; only what a test is about is to be given."""

    def make(**given: object) -> RunRecord:
        values: dict[str, object] = {
            "id": "r1",
            "job": "tidy",
            "status": Status.RUNNING,
            "params": {"table": "item"},
            "cursor": None,
            "done": 10,
            "total": 100,
            "counters": {},
            "result": None,
            "error": None,
            "attempts": 0,
            "interruptions": 0,
            "crashes": 0,
            "fence": 1,
            "worker": "host:1",
            "enqueued_at": START,
            "started_at": START,
            "finished_at": None,
            "waiting_for": None,
        }
        return RunRecord.model_validate({**values, **given})

    return make


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0.0 s"), (0.44, "0.4 s"), (12.4, "12 s"), (185, "3 min 5 s"), (7_800, "2 h 10 min"), (356_400, "4 d 3 h")],
)
def test_duration(seconds: float, text: str) -> None:
    """Two units at most, and never a negative one."""
    assert duration(seconds) == text


def test_foreign_text_cannot_drive_a_terminal() -> None:
    """Escapes are spelt out and lines joined, so that an error message is one harmless line."""
    assert one_line("a\x1b[2J\n\n  b\tc") == r"a\x1b[2J; b c"


def test_a_rate_is_of_the_last_seconds() -> None:
    """A run that has become faster shows its rate of now, and the time left at that rate."""
    pace = Pace()
    for second in range(21):
        pace.see(second, second if second < WINDOW_S else 100 * second)
    assert pace.rows_per_s == 100
    assert pace.left_s(2_500) == 5


@pytest.mark.parametrize("seen", [[], [(0.0, 5)], [(0.0, 5), (1.0, 5)], [(0.0, 5), (0.0, 9)], [(0.0, 9), (1.0, 5)]])
def test_no_rate_before_rows_were_seen_to_be_done(seen: list[tuple[float, int]]) -> None:
    """Nothing is made up of one look, of a standstill, or of a run that began again."""
    pace = Pace()
    for now_s, done in seen:
        pace.see(now_s, done)
    assert pace.rows_per_s is None
    assert pace.left_s(100) is None


def test_no_time_left_of_an_estimate_that_was_passed() -> None:
    """A total is an estimate while a file is read: once passed, it foretells nothing."""
    pace = Pace()
    pace.see(0, 0)
    pace.see(1, 50)
    assert pace.left_s(40) is None


def test_rows_of_an_unknown_total(make_record: Callable[..., RunRecord]) -> None:
    """Without a total, only what is done is said."""
    assert rows(make_record(done=1_200, total=None)) == "1,200 rows"
    assert rows(make_record(done=1_200, total=5_000)) == "1,200 of 5,000 rows"


def test_time_taken_ends_with_the_run(make_record: Callable[..., RunRecord]) -> None:
    """A run that ended does not grow older; one that never started took no time."""
    later = START + timedelta(hours=1)
    assert took_s(make_record(finished_at=START + timedelta(seconds=2)), later) == 2
    assert took_s(make_record(), later) == 3_600
    assert took_s(make_record(started_at=None), later) is None


def test_a_success_tells_no_old_error(make_record: Callable[..., RunRecord]) -> None:
    """The error of an earlier attempt is no news once the run succeeded."""
    error = RunError(type="ValueError", message="no\nway")
    assert reason(make_record(status=Status.SUCCEEDED, error=error)) == ""
    assert reason(make_record(status=Status.FAILED, error=error)) == "ValueError: no; way"
    assert reason(make_record(status=Status.CANCELLED, waiting_for="not wanted")) == "not wanted"


def test_a_failed_run_is_shown_with_its_traceback_last(
    make_record: Callable[..., RunRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    """Facts first, then what can be typed next, then the long part."""
    error = RunError(
        type="ValueError", message="no way", sqlstate="23505", constraint="item_pkey", traceback="the story"
    )
    print_run(make_record(status=Status.FAILED, error=error, counters={"quarantined": 2}), START)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["id", "r1"]
    assert "error codes   SQLSTATE 23505, constraint item_pkey" in lines
    assert any("heavylift quarantine r1" in line for line in lines)
    assert any("""heavylift enqueue tidy '{"table": "item"}'""" in line for line in lines)
    assert lines[-1] == "the story"


def test_runs_in_a_pipe_are_tab_separated(
    make_record: Callable[..., RunRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    """A line a run, the id first, and nothing in it that would split the line."""
    print_runs([make_record(waiting_for="a\tb\nc"), make_record(id="r2")], START + timedelta(seconds=2))
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["r1", "r2"]
    assert lines[0][1:5] == ["tidy", "running", "10/100", "5"]
    assert lines[0][-1] == "a b; c"
    assert len(lines[0]) == len(lines[1])


@pytest.mark.parametrize("width", [80, 110, 160])
def test_a_table_keeps_ids_whole(make_record: Callable[..., RunRecord], width: int) -> None:
    """However narrow the terminal, a run is one line, and its id can be copied from it."""
    screen = Console(file=StringIO(), force_terminal=True, width=width, no_color=True)
    record = make_record(id="0123456789abcdef" * 2, waiting_for="backing off " * 20)
    screen.print(runs_table([record, record], START, width))
    assert isinstance(screen.file, StringIO)
    lines = screen.file.getvalue().splitlines()
    assert len(lines) == 3
    assert record.id in lines[1]
    assert "running" in lines[1]
    assert lines[1].rstrip().endswith("…")
