"""An id that is used again: the finished run that had it is kept under `<id>~1`, `<id>~2` and so on.

Owns the renaming. Everything that belongs to the run goes along.
"""

from typing import Final

from sqlalchemy import select, update

from worker.core.outcomes import Status
from worker.database.engine import Database
from worker.database.tables import RUNS

AFTER_TILDE: Final = "\x7f"
"""The character that comes next, as ids are compared: byte by byte."""


async def keep_finished_run(database: Database, run_id: str) -> None:
    """Keep a finished run under the next free `<id>~n`, so that its id can be used again."""
    async with database.engine.begin() as connection:
        # as a range: LIKE overlooks upper and lower case on some databases, and then cannot use the index
        older = select(RUNS.c.id).where(RUNS.c.id > f"{run_id}~", RUNS.c.id < f"{run_id}{AFTER_TILDE}")
        number = 1 + max((_number(found) for found in (await connection.execute(older)).scalars()), default=0)
        finished = [status.value for status in Status if status.finished]
        await connection.execute(
            update(RUNS).where(RUNS.c.id == run_id, RUNS.c.status.in_(finished)).values(id=f"{run_id}~{number}")
        )


def _number(kept_id: str) -> int:
    suffix = kept_id.rpartition("~")[2]
    return int(suffix) if suffix.isdecimal() else 0
