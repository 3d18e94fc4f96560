"""What goes wrong on the wire between a client and its database, and when: told in advance, or by chance.

Owns the choice. Refuses to know a socket: the proxy asks, and does what it is told.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Fault(Enum):
    """What happens to one COMMIT; but for a slow one, the client's connection is lost each time."""

    NEVER_ARRIVES = "cut before the server sees it"
    REPLY_LOST = "the server commits, its reply is dropped"
    LANDS_LATE = "the client is cut first, and the server gets it a moment later"
    SLOW = "it is held for a moment, and then goes its way"


class FaultPlan(Protocol):
    """Asked at each COMMIT, and for each piece of data that passes."""

    def at_commit(self, ordinal: int) -> Fault | None:
        """What happens to a COMMIT, the so-manyth of all that have passed, from 1; None for nothing."""

    def late_s(self) -> float:
        """How long a COMMIT is held that is slow, or lands late, in seconds."""

    def latency_s(self) -> float:
        """How long the next piece is held, in seconds."""

    def cut_at(self, size: int) -> int | None:
        """After which byte of a piece of so many the connection is cut; None for not at all."""


@dataclass(frozen=True, slots=True)
class FaultsAt:
    """Faults at chosen COMMITs, and nothing else.

    Attributes:
        faults: by the COMMIT's ordinal.
        held_s: how long a late one is held.
    """

    faults: Mapping[int, Fault]
    held_s: float = 0.5

    def at_commit(self, ordinal: int) -> Fault | None:
        """As chosen."""
        return self.faults.get(ordinal)

    def late_s(self) -> float:
        """As chosen."""
        return self.held_s

    def latency_s(self) -> float:
        """None."""
        return 0.0

    def cut_at(self, size: int) -> int | None:
        """Never."""
        del size
        return None


class FaultsByChance:
    """Faults of every kind by chance, from the first COMMIT on: a worker starts undisturbed.

    Args:
        rand: chance.
        commits: the share of COMMITs that something happens to.
        bytes_a_cut: how many bytes pass between two cuts, on average, over all connections.
        slow: the share of pieces that are held.
        longest_s: how long a piece is held at most, in seconds.
        latest_s: likewise a COMMIT.
    """

    def __init__(
        self,
        rand: random.Random,
        *,
        commits: float = 0.1,
        bytes_a_cut: int = 100_000,
        slow: float = 0.02,
        longest_s: float = 0.03,
        latest_s: float = 1.0,
    ) -> None:
        self._rand = rand
        self._commits = commits
        self._bytes_a_cut = bytes_a_cut
        self._slow = slow
        self._longest_s = longest_s
        self._latest_s = latest_s
        self._begun = False
        self.told: dict[str, int] = {}
        """How often each kind of fault was chosen."""

    def at_commit(self, ordinal: int) -> Fault | None:
        """One of all kinds, each as often as the others."""
        del ordinal
        self._begun = True
        if self._rand.random() >= self._commits:
            return None
        fault = self._rand.choice(list(Fault))
        self._tell(fault.name.lower())
        return fault

    def late_s(self) -> float:
        """Any time up to the longest."""
        return self._rand.uniform(0, self._latest_s)

    def latency_s(self) -> float:
        """None for most pieces."""
        if not self._begun or self._rand.random() >= self._slow:
            return 0.0
        self._tell("latency")
        return self._rand.uniform(0, self._longest_s)

    def cut_at(self, size: int) -> int | None:
        """Any byte is as likely as any other."""
        if not self._begun:
            return None
        passing = int(self._rand.expovariate(1 / self._bytes_a_cut))
        if passing >= size:
            return None
        self._tell("cut")
        return passing

    @property
    def lost(self) -> int:
        """How many of them cost the client a connection."""
        return sum(count for kind, count in self.told.items() if kind not in {"latency", Fault.SLOW.name.lower()})

    def _tell(self, kind: str) -> None:
        self.told[kind] = self.told.get(kind, 0) + 1
