"""Log lines: a fixed vocabulary of events, on the console for people or as JSON for machines.

Owns every line that the runtime writes about runs. Refuses parameters, rows and secrets: none is ever in an event.
"""

import asyncio
import logging
import sys
from typing import Literal, assert_never

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from worker.core.events import (
    AttemptEnded,
    ChunkCommitted,
    Event,
    IndicatorLeftOut,
    Listener,
    OutcomeNotSaved,
    RunClaimed,
    RunHeld,
    RunReleased,
    StartedOver,
)
from worker.core.outcomes import Cancelled, Failed, RetryAt, Snoozed


def start_logging(
    form: Literal["console", "json"], level: Literal["debug", "info", "warning", "error"] = "info"
) -> FilteringBoundLogger:
    """Set logging up for this process, on standard error, and return the root logger.

    Args:
        form: for people or for machines.
        level: below which no line is written.
    """
    shape: Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=24)
    )
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    _show_library_warnings(common, shape)
    structlog.configure(
        processors=[*common, shape],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    log: FilteringBoundLogger = structlog.get_logger()
    return log


def _show_library_warnings(common: list[Processor], shape: Processor) -> None:
    """Have what libraries warn of look like our own lines, unless somebody has set their logging up already."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, shape],
            foreign_pre_chain=[*common, structlog.stdlib.add_logger_name],
        )
    )
    root.addHandler(handler)


def apart(listener: Listener) -> Listener:
    """A listener that hands each event to another one later, in a turn of the event loop of its own.

    What the other one raises reaches the loop's exception handler, which logs it, and never the run it was told of.
    """

    def tell(event: Event) -> None:
        asyncio.get_running_loop().call_soon(listener, event)

    return tell


class LogListener:
    """Writes one line an event; a line a chunk only at debug level."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log

    def __call__(self, event: Event) -> None:
        """Write the event's line."""
        match event:
            case RunClaimed(run_id, job, fence, chunk, crashes):
                self._log.info("run_claimed", run=run_id, job=job, fence=fence, chunk=chunk, crashes=crashes)
            case ChunkCommitted(run_id, job, chunk, rows, took_ms, next_rows):
                self._log.debug(
                    "chunk_committed", run=run_id, job=job, chunk=chunk, rows=rows, ms=round(took_ms), next=next_rows
                )
            case StartedOver(run_id, job, kind, error, _, pause_s):
                self._log.warning(
                    "started_over", run=run_id, job=job, kind=kind, error=error, pause_s=round(pause_s, 3)
                )
            case RunHeld() | RunReleased() | IndicatorLeftOut():
                self._governed(event)
            case OutcomeNotSaved(run_id, job, outcome, error):
                self._log.error("outcome_not_saved", run=run_id, job=job, outcome=_name(outcome), error=error)
            case AttemptEnded():
                self._attempt_ended(event)
            case _:
                assert_never(event)

    def _governed(self, event: RunHeld | RunReleased | IndicatorLeftOut) -> None:
        match event:
            case RunHeld(run_id, job, reason, waits):
                self._log.info("run_held" if waits else "run_slowed", run=run_id, job=job, reason=reason)
            case RunReleased(run_id, job, held_ms):
                self._log.info("run_released", run=run_id, job=job, s=round(held_ms / 1000, 3))
            case IndicatorLeftOut(indicator, error):
                self._log.warning("indicator_left_out", indicator=indicator, error=error)

    def _attempt_ended(self, event: AttemptEnded) -> None:
        said: dict[str, object] = {"run": event.run_id, "job": event.job, "s": round(event.took_ms / 1000, 3)}
        match event.outcome:
            case Failed(error):
                self._log.error("run_failed", **said, error=f"{error.type}: {error.message}")
            case RetryAt(when, error):
                self._log.warning("run_retries", **said, at=when.isoformat(), error=f"{error.type}: {error.message}")
            case Snoozed(until, reason):
                self._log.info("run_snoozed", **said, until=until.isoformat(), reason=reason)
            case Cancelled(reason):
                self._log.info("run_cancelled", **said, reason=reason)
            case _:
                self._log.info(f"run_{_name(event.outcome)}", **said)


def _name(outcome: object) -> str:
    return {"LeaseLost": "lease_lost"}.get(type(outcome).__name__, type(outcome).__name__.lower())
