"""The values that a source of rows hands out: batches, faults, and the two protocols of a source.

Owns their shape. A `RowSource` blocks, as files do; a job sees a `Source`, which is awaited whatever is behind it.
Refuses to read anything or to know what a column means.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol


class Absent(Enum):
    """The value of a column that a row does not carry (an empty CSV cell, a JSON object without the member)."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT


@dataclass(frozen=True, slots=True)
class RowFault:
    """A row that cannot be used, and why.

    Attributes:
        position: the 1-based line of a file where the row begins (the header is line 1), or the 1-based index of an
            inline row.
        reason: one line for a person.
        payload: the row as far as it could be read, JSON-safe: by column name, or `{"raw": text}`.
    """

    position: int
    reason: str
    payload: dict[str, object]


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a source, in order.

    Attributes:
        rows: one tuple a readable row, aligned with the source's `columns`; `ABSENT` where a row carries no value.
            CSV values are text; JSON values are what JSON has.
        positions: for each of `rows`, its line or index, 1-based.
        faults: rows that could not even be read (bad encoding, malformed, too long, wrong number of fields).
        cursor: JSON-safe, a `SourceCursor` and more; a source opened with it goes on right after this batch.
        last: whether the source has nothing after this batch. A batch may be last and empty.
        fraction: how much of the source was read by the end of this batch, 0 to 1; None where unknown.
    """

    rows: list[tuple[object, ...]]
    positions: list[int]
    faults: list[RowFault]
    cursor: dict[str, object]
    last: bool
    fraction: float | None

    @property
    def read(self) -> int:
        """How many rows of the source this batch accounts for."""
        return len(self.rows) + len(self.faults)


class RowSource(Protocol):
    """A source of rows, opened at a cursor. Its methods block: call them in a thread."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the source carries, the same on every attempt."""
        ...

    @property
    def empty_is_text(self) -> bool:
        """Whether every value is text and an absent one an empty cell, as in CSV: it can mean an empty string."""
        ...

    def read(self, size: int) -> Batch:
        """The next at most `size` rows (faulty ones counted).

        Raises:
            SourceError: the source is truncated or damaged from here on.
        """
        ...

    def close(self) -> None:
        """Give back what the source holds open."""
        ...


class Source(Protocol):
    """An open source of rows, as a job sees it; `worker.run.sources.open_source` gives one."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the source carries, the same on every attempt."""
        ...

    @property
    def empty_is_text(self) -> bool:
        """Whether every value is text and an absent one an empty cell, as in CSV: it can mean an empty string."""
        ...

    async def read(self, size: int) -> Batch:
        """The next at most `size` rows (faulty ones counted).

        Raises:
            SourceError: the source is truncated or damaged from here on.
        """
        ...

    async def settle(self, batch: Batch) -> Batch:
        """Write down, in the chunk's transaction, that a batch is dealt with, where the source keeps count of that.

        Args:
            batch: as `read` returned it.

        Returns:
            What of it is left to do: the batch itself, or less where another run was faster.
        """
        ...

    async def close(self) -> None:
        """Give back what the source holds open."""
        ...
