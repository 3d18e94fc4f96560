"""Rows of a table that the database refused to have changed: what they hold and why, for the quarantine.

Owns turning keys back into rows. The rows themselves stay in the table as they are.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from worker.core.isolated import Refused
from worker.core.refused import RefusedRow
from worker.declare.walk import KeyValues, Walk
from worker.source.validate_faults import row_payload

AT_ONCE: Final = 100
"""Keys in one statement: its conditions are joined by OR, and planning takes time that grows with them."""


async def refused_rows(session: AsyncSession, walk: Walk, refused: Sequence[Refused[KeyValues]]) -> list[RefusedRow]:
    """What to keep of rows that were refused, in their order.

    Args:
        session: in the chunk's transaction; the rows are locked in it.
        walk: the walk that the keys are of.
        refused: the keys, and why each was refused.
    """
    # SQLAlchemy's names are a class of their own, which the ledger's JSON takes for no text
    width, names = len(walk.key), tuple(str(column.name) for column in walk.table.columns)
    found: dict[KeyValues, dict[str, object]] = {}
    for start in range(0, len(refused), AT_ONCE):
        keys = [one.item for one in refused[start : start + AT_ONCE]]
        for row in await (await session.connection()).execute(walk.rows_of(keys)):
            found[tuple(row[:width])] = row_payload(names, tuple(row[width:]), empty_is_text=False)
    # a row of a table has no place in a source
    return [RefusedRow.by_database(0, found[one.item], one.error) for one in refused]
