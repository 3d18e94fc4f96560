"""Audit rows of moved rows: written in the chunk's own transaction, never changed.

Owns `heavylift_moves`. Refuses to move anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.database.tables import MOVES


@dataclass(frozen=True, slots=True)
class Move:
    """What all audit rows of one run have in common.

    Attributes:
        run_id: the run.
        actor: who asked for it.
        table: the registered name of the table.
        key: the names of its primary key's columns.
        column: the column that holds another value now.
        new: that value, JSON-safe.
        reason: why, in the words of whoever asked.
    """

    run_id: str
    actor: str
    table: str
    key: tuple[str, ...]
    column: str
    new: object
    reason: str


async def write_moves(connection: AsyncConnection, move: Move, rows: Sequence[tuple[Sequence[object], object]]) -> None:
    """Write one audit row for each moved row.

    Args:
        connection: in the transaction in which the rows were moved.
        move: what they share.
        rows: for each row its key's values and what the column held before, JSON-safe. At least one.
    """
    shared = {
        "run_id": move.run_id,
        "table_name": move.table,
        "column_name": move.column,
        "new_value": move.new,
        "reason": move.reason,
        "actor": move.actor,
    }
    await connection.execute(
        insert(MOVES),
        [{**shared, "row_key": dict(zip(move.key, key, strict=True)), "old_value": old} for key, old in rows],
    )
