"""What came of applying items of which the database may refuse some."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from worker.core.outcomes import ErrorRecord

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Refused(Generic[T]):
    """An item that the database refused, and why."""

    item: T
    error: ErrorRecord


@dataclass(frozen=True, slots=True)
class Isolated(Generic[T, R]):
    """What came of applying some items.

    Attributes:
        results: what each accepted statement gave, in order.
        refused: the items that were refused, each alone.
    """

    results: list[R] = field(default_factory=list)
    refused: list[Refused[T]] = field(default_factory=list)
