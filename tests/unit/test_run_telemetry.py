"""Log lines: each event has one, under its fixed name."""

import asyncio
import json

import pytest
import structlog
from structlog.testing import capture_logs

from worker.core.events import Event, IndicatorLeftOut, RunHeld, RunReleased
from worker.run.telemetry import LogListener, apart, start_logging


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


async def test_a_listener_that_raises_is_not_the_runs_business() -> None:
    """What a listener raises reaches the event loop's handler, and the next event reaches the listener."""
    said: list[object] = []
    heard: list[Event] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["exception"]))

    def listen(event: Event) -> None:
        heard.append(event)
        raise ConnectionError("no metrics today")

    tell = apart(listen)
    tell(RunReleased("r", "upsert", 1.0))
    tell(RunReleased("r", "upsert", 2.0))
    await asyncio.sleep(0)
    assert [type(error) for error in said] == [ConnectionError, ConnectionError]
    assert heard == [RunReleased("r", "upsert", 1.0), RunReleased("r", "upsert", 2.0)]


def test_lines_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    """At `warning` a run's ordinary lines are left out, and what is worth a warning is not."""
    kept = structlog.get_config()
    try:
        log = start_logging("json", "warning")
        LogListener(log)(RunReleased("r", "upsert", 1.0))
        LogListener(log)(IndicatorLeftOut("wal_archive", "permission denied"))
    finally:
        structlog.configure(**kept)
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["indicator_left_out"]
