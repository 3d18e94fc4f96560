"""One step of the loop as values: what the script is told, and what it answers.

Owns the order of the script's arguments and the reading of its reply. Refuses I/O.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

PAGE: Final = 50
"""How many queue entries beyond the free slots are looked at in one go: most of those in front are under way."""

SCAN: Final = 2_000
"""How many queue entries one step passes by at most; a step for so many holds Redis for some 3 ms."""

MOST_ENDINGS: Final = 500
"""How many runs one step ends at most: Lua's `unpack` takes some thousands of arguments."""

Word = bytes | str | int


class Kind(StrEnum):
    """What becomes of a delivery."""

    FINISH = "finish"
    """It is over: its keys go, its result stays."""
    SPENT = "spent"
    """It comes again, and this try counted."""
    UNSPENT = "unspent"
    """It comes again, and this try did not count."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a delivery ended, for Redis.

    Attributes:
        run_id: the arq job id.
        score: its score in the queue when it was claimed, as Redis wrote it.
        kind: what becomes of it.
        result: the serialised result of a finished one; empty for none.
        result_ms: how long the result is kept, in ms; 0 for ever.
        again_ms: in how many ms it comes again; 0 at once, in its old place.
        keep_lease_ms: how long its lease stays though it has ended, in ms.
        tries: what the counter of tries is set to; 0 leaves it.
    """

    run_id: str
    score: bytes
    kind: Kind
    result: bytes = b""
    result_ms: int = 0
    again_ms: int = 0
    keep_lease_ms: int = 0
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """A delivery that a step has claimed.

    Attributes:
        run_id: the arq job id.
        score: its score, as Redis wrote it.
        tries: which try this is, from 1.
        aborted_ms: when somebody asked for its abortion, in ms since 1970; None where nobody did.
        payload: the serialised job; None where it has expired.
    """

    run_id: str
    score: bytes
    tries: int
    aborted_ms: int | None
    payload: bytes | None

    @property
    def due_ms(self) -> int:
        """When it was due, in ms since 1970."""
        return int(float(self.score))


@dataclass(frozen=True, slots=True)
class Reply:
    """What a step answers.

    Attributes:
        taken: the claimed deliveries.
        next_ms: in how many ms the next deferred one is due; None where there is none, or no slot was free.
        aborts: the newest requests for abortion, in ms since 1970, by run id.
        scan_from: where the next step goes on looking, because this one passed by as many as it may; None at the end.
        marked: whether Redis still has the mark that it was filled from the ledger.
        queued: how many entries the queue has; None unless asked.
    """

    taken: Sequence[Taken] = ()
    next_ms: int | None = None
    aborts: dict[str, int] = field(default_factory=dict)
    scan_from: int | None = None
    marked: bool = True
    queued: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a step is asked for.

    Attributes:
        holder: the name in the leases.
        want: how many deliveries to claim at most.
        lease_ms: how long a claim holds without renewal, in ms.
        held: the ids that this worker has under way.
        endings: how earlier ones ended.
        scan_from: where the last step stopped looking.
        keep_payloads: whether a claimed payload loses its expiry.
        adopt: whether claims that this worker holds without knowing of them (a reply was lost) are taken too.
        count: whether to count the queue.
    """

    holder: str
    want: int
    lease_ms: int
    held: Collection[str] = ()
    endings: Sequence[Ending] = ()
    scan_from: int = 0
    keep_payloads: bool = False
    adopt: bool = False
    count: bool = False


def arguments(asked: Asked) -> list[Word]:
    """The script's ARGV."""
    words: list[Word] = [
        asked.holder,
        max(0, asked.want),
        asked.lease_ms,
        PAGE,
        asked.scan_from,
        SCAN,
        int(asked.keep_payloads),
        int(asked.adopt),
        int(asked.count),
        len(asked.held),
        len(asked.endings),
        *asked.held,
    ]
    for ending in asked.endings:
        words += (
            ending.run_id,
            ending.score,
            ending.kind.value,
            ending.result,
            ending.result_ms,
            ending.keep_lease_ms,
            ending.tries,
        )
        if ending.kind is not Kind.FINISH:
            words[-3] = ending.again_ms
    return words


def read_reply(reply: Sequence[Any]) -> Reply:
    """Read what the script answered."""
    taken, payloads, next_ms, aborts, scan_from, marked, queued = reply
    return Reply(
        taken=[
            Taken(
                taken[at].decode(),
                taken[at + 1],
                taken[at + 2],
                int(float(taken[at + 3])) if taken[at + 3] else None,
                payload,
            )
            for at, payload in zip(range(0, len(taken), 4), payloads, strict=True)
        ],
        next_ms=_at_least(next_ms),
        aborts={aborts[at].decode(): int(float(aborts[at + 1])) for at in range(0, len(aborts), 2)},
        scan_from=_at_least(scan_from),
        marked=bool(marked),
        queued=_at_least(queued),
    )


def _at_least(number: object) -> int | None:
    # -1 is the script's "none": a nil would end the array
    return number if isinstance(number, int) and number >= 0 else None
