"""One column of a batch: what stands for an absent value, the type of the rest, the database's limits.

Owns a `ColumnRule`: the order of these steps over a whole column at once, which is what makes them fast. Refuses to
know of rows: faults are by index, and the caller leaves out the rows that have any.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter, ValidationError

from worker.core.table_facts import ColumnFacts
from worker.source.batch import ABSENT
from worker.source.column_limits import Step
from worker.source.validate_faults import details, message, messages, refused

Faults = defaultdict[int, list[str]]
"""The reasons against each row of a batch that has any, by the row's index."""

_NULL_IN_KEY: Final = "is part of the key and may not be empty or null"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing can stand for a cell.

    Attributes:
        why: the end of a sentence that begins with the column.
    """

    why: str


@dataclass(frozen=True, slots=True)
class ColumnRule:
    """What the values of one column must be.

    Attributes:
        facts: the column as the database declares it.
        in_key: whether it is part of the key, which admits no NULL.
        empty_text: whether an absent value is `''` rather than missing.
        inserts: whether a row may become a new one of the table, so that the database's default may stand for a cell.
        default: makes the Python-side default; None where there is none.
        adapter: validates a whole column; admits None exactly where NULL is.
        steps: the database's limits and conversions.
    """

    facts: ColumnFacts
    in_key: bool
    empty_text: bool
    inserts: bool
    default: Callable[[], object] | None
    adapter: TypeAdapter[list[object]]
    steps: tuple[Step, ...]

    @property
    def nullable(self) -> bool:
        """Whether a row may have NULL here."""
        return self.facts.nullable and not self.in_key

    def validate(self, cells: Sequence[object], faults: Faults) -> list[object]:
        """The values to send, one a row; None at the faulty ones.

        Args:
            cells: the raw values, one a row.
            faults: where reasons go, by index.
        """
        return self.finish(self.prepare(cells, faults), cells, faults)

    def prepare(self, cells: Sequence[object], faults: Faults) -> list[object]:
        """Put in what stands for absent values, and give the rest the column's type.

        Args:
            cells: the raw values, one a row.
            faults: where reasons go, by index.

        Returns:
            One value a row; None at the faulty ones.
        """
        settled: set[int] = set()
        if self.nullable:
            values: list[object] = [None if cell is ABSENT else cell for cell in cells]
        else:
            values = list(cells)
            settled = self._settle(values, faults)
        return self._convert(values, settled, faults)

    def fill(self, cell: object) -> object:
        """What stands for a cell that is absent or null.

        Returns:
            The value, not to be validated any further unless it is text; or a `Refusal`.
        """
        if self.facts.nullable:
            return Refusal(_NULL_IN_KEY) if self.in_key else None
        if cell is ABSENT and self.empty_text:
            return ""
        if cell is ABSENT and self.default is not None:
            return self.default()
        if self.in_key:
            return Refusal(_NULL_IN_KEY)
        if cell is ABSENT and self.inserts:
            return Refusal("is required") if self.facts.default is None else None
        return Refusal("may not be null" if cell is None else "may not be empty or null")

    def finish(self, values: list[object], cells: Sequence[object], faults: Faults) -> list[object]:
        """Apply the database's limits and conversions to values of the right type.

        Args:
            values: one a row.
            cells: the raw values that a reason quotes.
            faults: where reasons go, by index.

        Returns:
            The values to send.
        """
        found: dict[int, str] = {}
        for step in self.steps:
            values = step(values, found)
        for index, why in found.items():
            faults[index].append(refused(self.facts.name, why, cells[index]))
        return values

    def make_defaults(self, count: int, faults: Faults) -> list[object]:
        """The defaults of a column that the source does not carry.

        Args:
            count: how many rows.
            faults: where reasons go, by index.
        """
        if self.default is None:
            return [None] * count
        values = [self.default() for _ in range(count)]
        return self.finish(values, values, faults)

    def _settle(self, values: list[object], faults: Faults) -> set[int]:
        settled: set[int] = set()
        for index in [i for i, value in enumerate(values) if value is ABSENT or value is None]:
            filled = self.fill(values[index])
            if isinstance(filled, Refusal):
                faults[index].append(f"column {self.facts.name!r} {filled.why}")
            # '' alone is validated like what was given: a pattern or a least length may refuse it.
            values[index] = None if isinstance(filled, Refusal) else filled
            if not (self.empty_text and filled == ""):
                settled.add(index)
        return settled

    def _convert(self, values: list[object], settled: set[int], faults: Faults) -> list[object]:
        pending: Sequence[int] = (
            [index for index in range(len(values)) if index not in settled] if settled else range(len(values))
        )
        given = values if not settled else [values[index] for index in pending]
        while True:
            try:
                converted = self.adapter.validate_python(given)
                break
            except ValidationError as error:
                reasons = _reasons_by_index(error)
            for at, why in reasons.items():
                index = pending[at]
                faults[index].append(refused(self.facts.name, why, values[index]))
                values[index] = None
            # Only what passed is validated again, at once: the cost stays linear however many rows are refused.
            pending = [index for at, index in enumerate(pending) if at not in reasons]
            given = [values[index] for index in pending]
        if not self.nullable and None in converted:
            self._refuse_nulls(pending, converted, values, faults)
        if len(converted) == len(values):
            return converted
        for index, value in zip(pending, converted, strict=True):
            values[index] = value
        return values

    def _refuse_nulls(
        self, pending: Sequence[int], converted: Iterable[object], values: list[object], faults: Faults
    ) -> None:
        # JSON text may say null, and a validator may return None: the merge would store the default instead.
        for index, value in zip(pending, converted, strict=True):
            if value is None:
                faults[index].append(refused(self.facts.name, "may not be null", values[index]))


def _reasons_by_index(error: ValidationError) -> dict[int, str]:
    found: dict[int, list[str]] = {}
    for item in details(error):
        index = item["loc"][0] if item["loc"] else None
        if not isinstance(index, int):
            raise error
        found.setdefault(index, []).append(message(item, skip=1))
    return {index: messages(texts) for index, texts in found.items()}
