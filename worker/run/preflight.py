"""A look around before the first chunk of a run: what is known to go wrong is refused, what may surprise is noted.

Owns when that is done and where it is written down. Refuses to judge: `worker.core.preflight` does.
"""

from collections.abc import Collection

from sqlalchemy import Table
from structlog.typing import FilteringBoundLogger

from worker.core.errors import PreflightError
from worker.core.preflight import Change, Surroundings, judge
from worker.database.claims import Claimed
from worker.database.ledger import Ledger


async def preflight(
    ledger: Ledger,
    claimed: Claimed,
    log: FilteringBoundLogger,
    table: Table,
    change: Change,
    columns: Collection[str] | None,
) -> Surroundings:
    """Look around a table, and say what is wrong there, if no chunk of the run was committed yet.

    Args:
        ledger: where notes are kept.
        claimed: the run.
        log: bound to the run.
        table: a registered one.
        change: what is to be done to its rows.
        columns: those that an update changes; None for any.

    Raises:
        PreflightError: the run must not begin; the message gives every reason.
    """
    database = ledger.database
    async with database.reading() as connection:
        around = await database.dialect.surroundings(connection, table, change)
    if claimed.progress.cursor is not None:
        return around
    verdict = judge(around, change, columns)
    if verdict.refusals:
        raise PreflightError(". Also: ".join(verdict.refusals))
    for warning in verdict.warnings:
        log.warning("preflight", said=warning)
        await ledger.note(claimed.fence.run_id, warning)
    return around
