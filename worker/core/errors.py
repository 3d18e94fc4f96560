"""Every exception of Heavylift, by family: control, configuration, request, run.

Owns what an error is called and what its message teaches. Refuses to classify database errors (that is
`worker.database.classify`) and to decide what follows from one (that is `worker.core.retry`).
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from difflib import get_close_matches
from enum import StrEnum
from typing import Literal


class HeavyliftError(Exception):
    """The root: everything that Heavylift raises on purpose is one of these."""


class ErrorKind(StrEnum):
    """What a failure calls for. Each database error, and each other exception, has exactly one kind."""

    CONTENTION = "contention"
    """Somebody else was in the way (deadlock, serialization, lock timeout, stale plan): the same again, soon."""
    CONNECTION = "connection"
    """The connection or the server went away: reconnect and go on, with longer pauses."""
    OVERLOAD = "overload"
    """The statement was too much (statement timeout, out of memory): again with a smaller chunk."""
    EXHAUSTED = "exhausted"
    """The server ran out of something that a person must free (disk, quota): again, slowly, and say so."""
    REFUSED_ROW = "refused_row"
    """The database refused a row's values (constraint, range, encoding): the row's fault, never retried as it is."""
    PERMANENT = "permanent"
    """It will fail the same way every time."""

    @property
    def transient(self) -> bool:
        """Whether trying the same thing again can succeed."""
        return self not in {ErrorKind.REFUSED_ROW, ErrorKind.PERMANENT}


# Control: raised by a job to say how its attempt ends.


class Control(HeavyliftError):  # noqa: N818 - Retry, Snooze and Cancel are no errors
    """Raised inside a job to end the attempt in a chosen way; not a failure."""


class Retry(Control):
    """Try this run again after a delay; the attempt counts.

    Args:
        after: seconds, or a timedelta, from now. None leaves it to the job's backoff.
    """

    def __init__(self, after: float | timedelta | None = None) -> None:
        seconds = after.total_seconds() if isinstance(after, timedelta) else after
        if seconds is not None and seconds < 0:
            raise ValueError(f"Retry(after={after!r}) lies in the past; give seconds from now, such as Retry(30)")
        self.after_s = seconds
        super().__init__("retry" if seconds is None else f"retry after {seconds:g} s")


class Snooze(Control):
    """Put this run aside until a moment, or for a duration; the attempt does not count.

    Args:
        until: an aware datetime, a timedelta, or seconds from now.
        reason: what the run record says it waits for; `snoozed` unless given.
    """

    def __init__(self, until: datetime | timedelta | float, reason: str | None = None) -> None:
        if isinstance(until, datetime) and until.tzinfo is None:
            raise ValueError(
                f"Snooze({until!r}) has no time zone; give an aware datetime, such as datetime.now(UTC) + delay"
            )
        self.until = until if isinstance(until, datetime | timedelta) else timedelta(seconds=until)
        self.reason = reason
        super().__init__(f"snooze: {until}" if reason is None else f"snooze: {until}, {reason}")


class Stop(Control):
    """Raised by the runtime itself between two chunks: the run was asked to stop here, at its cursor.

    Args:
        why: `interrupt` (this worker is stopping), `pause` or `cancel` (a person asked for it).
    """

    def __init__(self, why: Literal["interrupt", "pause", "cancel"]) -> None:
        self.why = why
        super().__init__(why)


class Cancel(Control):
    """End this run as cancelled, for good, with a reason.

    Args:
        reason: what a person will read in the run record.
    """

    def __init__(self, reason: str = "cancelled by the job") -> None:
        self.reason = reason
        super().__init__(reason)


# Configuration: raised when a process starts, never in the middle of the night.


class SettingsError(HeavyliftError):
    """A setting has a value that cannot work. The message names it, says what is wrong and gives an example."""


class DeclarationError(HeavyliftError):
    """A job, table or module was declared in a way that cannot work. Raised at import."""


class LedgerVersionError(HeavyliftError):
    """The database's `heavylift_*` tables are missing, or of another version than this program."""


class UnreachableError(HeavyliftError):
    """A server did not answer. The message says what was tried and which setting to change."""


# Request: what somebody asked for cannot be done as asked. Permanent, one clear line each.


class RequestError(HeavyliftError):
    """Somebody asked for something that cannot be done as asked; asking again the same way cannot help."""


def choices(name: str, existing: Iterable[str]) -> str:
    """The end of an "unknown ..." message: the nearest name, then all that exist.

    Args:
        name: what was asked for.
        existing: the names that would have worked.

    Returns:
        Text such as `Did you mean 'orders'? There are: items, orders.`, or `There are none.`
    """
    names = sorted(existing)
    if not names:
        return "There are none."
    near = get_close_matches(name, names, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"{hint}There are: {', '.join(names)}."


class UnknownJobError(RequestError):
    """No registered job has that name."""

    def __init__(self, name: str, existing: Iterable[str]) -> None:
        super().__init__(f"No job is called {name!r}. {choices(name, existing)}")


class UnknownProcessorError(RequestError):
    """No registered processor has that name."""

    def __init__(self, name: str, existing: Iterable[str]) -> None:
        super().__init__(
            f"No processor is called {name!r}. {choices(name, existing)} Declare one with @processor in a module that "
            "WORKER_JOBS names, for example WORKER_JOBS=jobs,myapp.jobs"
        )


class UnknownTableError(RequestError):
    """No registered table has that name."""

    def __init__(self, name: str, existing: Iterable[str]) -> None:
        super().__init__(
            f"No table {name!r} is registered. {choices(name, existing)} "
            "Register a table by naming its model's module, for example WORKER_MODELS=myapp.models, or one without a "
            "model by its own name, for example WORKER_REFLECT=public.orders"
        )


class UnknownColumnError(RequestError):
    """A registered table has no column of that name."""

    def __init__(self, table: str, column: str, existing: Iterable[str]) -> None:
        super().__init__(f"Table {table!r} has no column {column!r}. {choices(column, existing)}")


class UnknownRunError(RequestError):
    """The ledger knows no run of that id."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"No run {run_id!r} is in the ledger. `heavylift runs` lists those that are")


class ParametersError(RequestError):
    """A job's parameters do not fit its signature. The message names each one that does not."""


class KeyNotUniqueError(RequestError):
    """The columns given as a key are not covered by a unique constraint, so rows could not be told apart."""


class UnorderedKeyError(RequestError):
    """A key cannot order the rows of a walk: several rows may share one, or some have NULL in it."""


class WhereError(RequestError):
    """A `where` cannot be read, or asks something that its table cannot answer."""


class UnboundedError(RequestError):
    """A `where` would touch every row of a table, and the run's option `all` does not allow that."""


class PreflightError(RequestError):
    """A look around the table showed that the run must not begin. The message gives every reason, and what to do."""


class NotAllowedError(RequestError):
    """The configuration does not allow this operation on this table."""


class ConflictError(RequestError):
    """A run of that id, or a transfer of that idempotency key, exists with other parameters."""


class PayloadError(RequestError):
    """A payload was refused before anything was built from it: too large, too deep, or holding more than data."""


class SourceError(RequestError):
    """A source of rows cannot be read: missing, outside the allowed folders, changed, truncated or malformed."""


class OutputError(RequestError):
    """A file cannot be written: outside the allowed folders, there already, or a part of it was lost or changed."""


class InvalidRowError(RequestError):
    """A row does not fit its table and the job was told to fail on that rather than quarantine it."""


# Run: what happens to a run under way.


class StaleFenceError(HeavyliftError):
    """A newer claim of this run exists, so this worker may not commit any more. Its transaction was rolled back."""


class AttemptTimeoutError(HeavyliftError):
    """One attempt took longer than the job's timeout. What its chunks committed stays."""


class TooManyRefusedError(HeavyliftError):
    """Most of a run's rows were refused, so going on would only fill the quarantine. What was committed stays."""


class BooksError(HeavyliftError):
    """An account and its books differ, so no transfer may touch it. The message says both, and how to see more."""


class TransactionMisuseError(HeavyliftError):
    """A job tried to commit, roll back or begin on the session that the runner owns."""


class ResultError(HeavyliftError):
    """A job returned something that its declared result type does not admit."""
