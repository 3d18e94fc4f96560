"""Deliveries that cannot begin on this worker, and when each is tried again.

Their payloads and queue entries stay in Redis: a newer worker may know the job, or read the payload. Owns the pauses,
which grow from try to try.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

BASE_MS: Final = 1_000
CAP_MS: Final = 60_000
"""The longest pause, in ms."""

KEPT: Final = 10_000
"""How many deliveries are remembered, for their pauses to grow."""


class Aside:
    """What one worker has put aside, as far as it remembers."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, int] = OrderedDict()

    def __iter__(self) -> Iterator[str]:
        """The ids that are remembered."""
        return iter(self._times)

    def pause_ms(self, run_id: str) -> int:
        """In how many ms a delivery that was put aside, once more, is to come again."""
        times = self._times.pop(run_id, 0)
        self._times[run_id] = times + 1
        if len(self._times) > KEPT:
            self._times.popitem(last=False)
        return int(min(CAP_MS, BASE_MS * 2 ** min(times, 10)))

    def forget(self, run_id: str) -> None:
        """A delivery can begin after all, or has ended without."""
        self._times.pop(run_id, None)
