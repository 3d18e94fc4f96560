"""A run's progress: how far it is and what it counted. One mutable value per attempt, saved with every chunk."""

from dataclasses import dataclass, field

from worker.core.cursor import Cursor


@dataclass(slots=True)
class Progress:
    """How far a run is.

    Attributes:
        done: rows dealt with by committed chunks, and by the open one once it counts them.
        total: rows in all; None while unknown, an estimate for a file that is being read.
        counters: named counts, such as `inserted`.
        cursor: where the next chunk starts; None before the first.
        chunk: how many chunks were committed.
        chunk_rows: how many rows the next chunk aims at; 0 before the first.
    """

    done: int = 0
    total: int | None = None
    counters: dict[str, int] = field(default_factory=dict)
    cursor: Cursor | None = None
    chunk: int = 0
    chunk_rows: int = 0

    def count(self, **amounts: int) -> None:
        """Add to named counters: `ctx.progress.count(inserted=3, updated=1)`."""
        for name, amount in amounts.items():
            self.counters[name] = self.counters.get(name, 0) + amount
