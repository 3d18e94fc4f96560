"""What the tests of `batch_update` share: deliveries, counts that must add up, and statements as they are sent."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from sqlalchemy import event
from sqlalchemy.engine import Connection

from tests.support import outcomes
from worker.core.outcomes import Outcome
from worker.database.claims import Delivery
from worker.database.engine import Database

ADVANCE = "UPDATE heavylift_progress"


def delivery(params: Mapping[str, object], run_id: str = "u", options: Mapping[str, object] | None = None) -> Delivery:
    """A delivery of the job, on the table of items unless another is named."""
    return Delivery(run_id, "batch_update", {"table": "item", **params}, dict(options or {}), "arq:queue", 1)


def update(run_id: str = "u", options: Mapping[str, object] | None = None, **params: object) -> Delivery:
    """A delivery of the job with parameters that are known where it is written."""
    return delivery(params, run_id, options)


def counts(outcome: Outcome) -> dict[str, int]:
    """The counts of a run that succeeded, without the zeros; they must add up."""
    return outcomes.counts(outcome, ("updated", "unchanged", "missing", "duplicates", "quarantined"))


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """The first words of each statement that the engine sends, in order, and where a transaction begins; no COMMIT."""
    seen: list[str] = []

    def see(_: Connection, __: object, statement: str, *___: object) -> None:
        seen.append(" ".join(statement.split()[:2]))

    def see_begin(_: Connection) -> None:
        seen.append("BEGIN")

    event.listen(database.engine.sync_engine, "before_cursor_execute", see)
    event.listen(database.engine.sync_engine, "begin", see_begin)
    try:
        yield seen
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", see)
        event.remove(database.engine.sync_engine, "begin", see_begin)


def last_chunk(seen: Sequence[str]) -> list[str]:
    """The kinds of the statements of the last chunk, from its BEGIN to its cursor."""
    end = len(seen) - seen[::-1].index(ADVANCE)
    begin = max(at for at, statement in enumerate(seen[:end]) if statement == "BEGIN")
    return [statement.split()[0] for statement in seen[begin:end]]
