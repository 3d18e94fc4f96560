"""Log lines: each event has one, under its fixed name."""

import pytest
import structlog
from structlog.testing import capture_logs

from worker.core.events import Event, IndicatorLeftOut, RunHeld, RunReleased
from worker.run.telemetry import LogListener


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            RunHeld("r", "upsert", "a vacuum runs on orders", waits=True),
            {"event": "run_held", "run": "r", "job": "upsert", "reason": "a vacuum runs on orders"},
        ),
        (
            RunHeld("r", "upsert", "slowed down", waits=False),
            {"event": "run_slowed", "run": "r", "job": "upsert", "reason": "slowed down"},
        ),
        (RunReleased("r", "upsert", 2500.4), {"event": "run_released", "run": "r", "job": "upsert", "s": 2.5}),
        (
            IndicatorLeftOut("wal_archive", "permission denied"),
            {"event": "indicator_left_out", "indicator": "wal_archive", "error": "permission denied"},
        ),
    ],
)
def test_what_the_governor_does_has_a_line_of_its_own(event: Event, line: dict[str, object]) -> None:
    """A hold says why, its end says how long it was, and an indicator that is left out says what was refused."""
    with capture_logs() as lines:
        LogListener(structlog.get_logger())(event)
    (written,) = lines
    assert {name: value for name, value in written.items() if name != "log_level"} == line
