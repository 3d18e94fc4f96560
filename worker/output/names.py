"""The names of a run's own files, beside the one that it makes.

Owns `<name>.<key>.<fence>.part` and `.whole`. The key is of the run, so that two runs with one target never meet; the
fence is of the claim, so that a worker which was taken for dead and wakes up writes into files of its own.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Literal

Role = Literal["part", "whole"]

_KEY_LENGTH = 12


def run_key(run_id: str, started_at: datetime) -> str:
    """What tells a run's files from those of all others, an earlier run of the same id included.

    Args:
        run_id: the run's id; it may hold any character.
        started_at: when the run first started, the same on every attempt.
    """
    moment = started_at.astimezone(UTC).isoformat()
    return sha256(f"{moment} {run_id}".encode("utf-8", "surrogatepass")).hexdigest()[:_KEY_LENGTH]


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one run's files for one target.

    Attributes:
        target: the name of the file that is made.
        key: the run's.
    """

    target: str
    key: str

    def of(self, role: Role, fence: int) -> str:
        """The name of what one claim writes."""
        return f"{self.target}.{self.key}.{fence}.{role}"

    def fence_of(self, name: str, role: Role) -> int | None:
        """The fence in a name of that role; None where the name is no such name of this run."""
        found = re.fullmatch(rf"{re.escape(self.target)}\.{self.key}\.(\d+)\.{role}", name, re.ASCII | re.DOTALL)
        return None if found is None else int(found[1])
