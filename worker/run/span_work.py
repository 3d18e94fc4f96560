"""One statement over the rows of a span: locked in key order first, and bisected where the database refuses some.

Owns the order: lock, try all, and only after a refusal look for the culprits, by ranges of their keys. Refuses to know
what the statement does.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from worker.core.isolated import Isolated
from worker.core.outcomes import ErrorRecord
from worker.database.engine import Database
from worker.declare.walk import KeyValues, Span
from worker.run.isolate import attempt, isolate

R = TypeVar("R")
Apply = Callable[[ColumnElement[bool]], Awaitable[R]]


async def lock_span(session: AsyncSession, span: Span, *, keys_stay: bool) -> int:
    """Lock the rows of a span that are meant, in key order, so that two jobs on one table cannot dead-lock.

    Args:
        session: in the chunk's transaction.
        span: which rows.
        keys_stay: whether rows that refer to these may go on being inserted (FOR NO KEY UPDATE where the database has
            it): for updates that leave keys alone.

    Returns:
        How many there are.
    """
    locked = span.walk.keys().where(span.condition).with_for_update(key_share=keys_stay)
    counted = select(func.count()).select_from(locked.subquery("locked"))
    return int((await (await session.connection()).execute(counted)).scalar_one())


async def apply_span(session: AsyncSession, database: Database, span: Span, apply: Apply[R]) -> Isolated[KeyValues, R]:
    """Apply a statement to the rows of a span, leaving out those that the database refuses.

    Args:
        session: in the chunk's transaction; the rows are locked.
        database: whose errors tell a refused row from other trouble.
        span: which rows.
        apply: runs the statement over the rows for which the condition that it is given holds.

    Raises:
        sqlalchemy.exc.DBAPIError: any trouble but a refused row.
    """
    result = await attempt(session, database, lambda: apply(span.condition))
    if not isinstance(result, ErrorRecord):
        return Isolated([result])
    rows = await (await session.connection()).execute(span.walk.keys().where(span.condition))
    keys = [tuple(row) for row in rows]
    return await isolate(session, database, keys, lambda part: apply(_these(span, part)))


def _these(span: Span, keys: Sequence[KeyValues]) -> ColumnElement[bool]:
    """The rows of neighbouring keys: a range says it in two values however many there are."""
    return and_(span.walk.within(keys[0], keys[-1]), span.matching)
