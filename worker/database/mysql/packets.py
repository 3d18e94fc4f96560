"""How many rows go into one statement: as many as fit into a packet of the server's.

Owns the estimate. A row that is too large by itself is sent all the same: the driver refuses it, by the server's code.
"""

from collections.abc import Iterator
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.database.mysql.sent_rows import Rows

_MOST_BYTES: Final = text("SELECT @@max_allowed_packet")

_SPARE: Final = 2**16
"""Bytes for the statement's own text."""

_NUMBER: Final = 20

_PER_VALUE: Final = 80
"""Bytes that a value costs at most beside its own: quotes, a comma, and what the statement makes of it."""


async def most_bytes(connection: AsyncConnection) -> int:
    """What the server takes in one packet."""
    return int((await connection.execute(_MOST_BYTES)).scalar_one())


def parts(rows: Rows, most: int, most_rows: int | None = None) -> Iterator[Rows]:
    """Rows in parts that each fit into a packet.

    Args:
        rows: of sendable values.
        most: bytes of a packet.
        most_rows: rows of a part; None for any number.
    """
    each = most_rows or max(1, len(rows))
    waiting = [rows[first : first + each] for first in range(0, len(rows), each)][::-1]
    while waiting:
        part = waiting.pop()
        if len(part) > 1 and _size(part) > most - _SPARE:
            middle = len(part) // 2
            waiting += [part[middle:], part[:middle]]
        elif part:
            yield part


def _size(rows: Rows) -> int:
    return sum(sum(map(_bytes, row)) + _PER_VALUE * len(row) for row in rows)


def _bytes(value: object) -> int:
    match value:
        case str():
            size = len(value) if value.isascii() else len(value.encode(errors="replace"))
            # a control character may become six of JSON's, one of which is escaped once more
            return (
                size + 3 * (value.count('"') + value.count("\\")) + value.count("'")
                if value.isprintable()
                else 7 * size
            )
        case bytes():
            return 2 * len(value)
    return _NUMBER
