"""Finding the rows that the database refuses: halves of a chunk in savepoints, until the refused ones stand alone.

Of n rows with b bad ones this takes about 2 b log2(n) statements more than one. What is sound is applied, in order. A
refused row is tried once more after the others, for it may need one of them (a row whose parent came later).
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from worker.core.errors import ErrorKind
from worker.core.isolated import Isolated, Refused
from worker.core.outcomes import ErrorRecord
from worker.database.classify import classify, describe
from worker.database.engine import Database

T = TypeVar("T")
R = TypeVar("R")


async def isolate(
    session: AsyncSession,
    database: Database,
    items: Sequence[T],
    apply: Callable[[Sequence[T]], Awaitable[R]],
    *,
    again: Callable[[T], bool] | None = None,
) -> Isolated[T, R]:
    """Apply items in the session's transaction, leaving out those that the database refuses.

    Args:
        session: in the chunk's transaction.
        database: whose errors tell a refused row from other trouble.
        items: in the order in which they are to be applied.
        apply: applies some of them, neighbours in order, in one statement or several; all or nothing.
        again: whether a refused item may be tried once more after those that came later; None for all of them.

    Raises:
        sqlalchemy.exc.DBAPIError: any trouble but a refused row.
    """
    found: Isolated[T, R] = Isolated()
    # depth first and left to right, so that items are applied in their order
    waiting = [items] if items else []
    while waiting:
        part = waiting.pop()
        result = await attempt(session, database, partial(apply, part))
        if not isinstance(result, ErrorRecord):
            found.results.append(result)
        elif len(part) == 1:
            found.refused.append(Refused(part[0], result))
        else:
            middle = len(part) // 2
            waiting += [part[middle:], part[:middle]]
    return await _once_more(session, database, apply, found, again or (lambda _: True))


async def _once_more(
    session: AsyncSession,
    database: Database,
    apply: Callable[[Sequence[T]], Awaitable[R]],
    found: Isolated[T, R],
    again: Callable[[T], bool],
) -> Isolated[T, R]:
    """Try the refused items again, one by one, for as long as that gets any of them in."""
    gained = bool(found.results)
    while found.refused and gained:
        refused, gained = list(found.refused), False
        found.refused.clear()
        for before in refused:
            item = before.item
            if not again(item):
                found.refused.append(before)
                continue
            result = await attempt(session, database, partial(apply, [item]))
            if isinstance(result, ErrorRecord):
                found.refused.append(Refused(item, result))
            else:
                found.results.append(result)
                gained = True
    return found


async def attempt(session: AsyncSession, database: Database, apply: Callable[[], Awaitable[R]]) -> R | ErrorRecord:
    """Do something in a savepoint; the record of the error where the database refused a row of it.

    Raises:
        sqlalchemy.exc.DBAPIError: any trouble but a refused row.
    """
    try:
        async with session.begin_nested():
            return await apply()
    except database.raises as error:
        if classify(error, database.dialect.errors) is not ErrorKind.REFUSED_ROW:
            raise
        return describe(error, database.dialect.errors.code_of)
