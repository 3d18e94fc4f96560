"""How many rows the next chunk should have, so that a chunk's transaction takes about a target time.

Pure: it is told what the last chunk had and took. Refuses to measure anything.
"""

from dataclasses import dataclass

GROWTH = 1.2
"""The most that a chunk grows by: one unlucky fast chunk must not make the next one ten times too long."""


@dataclass(frozen=True, slots=True)
class ChunkBounds:
    """What a chunk's size is held to.

    Attributes:
        start: rows of the first chunk.
        least: fewest rows, at least 1.
        most: most rows.
        target_ms: how long a chunk's transaction should take, in milliseconds.
    """

    start: int = 500
    least: int = 10
    most: int = 20_000
    target_ms: float = 100.0

    def clamp(self, rows: float) -> int:
        """`rows` within the bounds, rounded down."""
        return max(self.least, min(self.most, int(rows)))


def next_size(size: int, rows: int, took_ms: float, bounds: ChunkBounds) -> int:
    """The size of the next chunk: grows by at most `GROWTH`, shrinks at once to what would have fitted.

    Args:
        size: the size that was aimed at.
        rows: the rows that the chunk really had; a short one (the last of a source) tells too little to grow by.
        took_ms: how long its transaction took, in milliseconds.
        bounds: the limits and the target.
    """
    fitting = rows * bounds.target_ms / max(took_ms, 0.001)
    if took_ms > bounds.target_ms and rows:
        return bounds.clamp(min(size, fitting))
    if rows < size:
        return bounds.clamp(size)
    return bounds.clamp(min(fitting, max(size * GROWTH, size + 1)))


def after_overload(size: int, bounds: ChunkBounds) -> int:
    """The size after a statement or lock timeout: half."""
    return bounds.clamp(size / 2)
