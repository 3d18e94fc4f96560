"""How fast a run goes and when it will end, from the last seconds of its progress."""

from collections import deque

WINDOW_S = 10.0
"""Rates are of the last so many seconds: long enough to be steady, short enough to show a change."""


class Pace:
    """Rate and time left of one run, fed with what is seen of it."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def see(self, now_s: float, done: int) -> None:
        """Note that `done` rows were done at `now_s`, seconds on any clock that only goes forward."""
        if self._seen and done < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now_s, done))
        while self._seen[-1][0] - self._seen[0][0] > WINDOW_S:
            self._seen.popleft()

    @property
    def rows_per_s(self) -> float | None:
        """Rows a second; None until rows were seen to be done."""
        if not self._seen:
            return None
        (first_s, first), (last_s, last) = self._seen[0], self._seen[-1]
        return (last - first) / (last_s - first_s) if last > first and last_s > first_s else None

    def left_s(self, total: int | None) -> float | None:
        """Seconds until `total` rows are done at this rate; None where rate or total is unknown, or it is passed."""
        rate = self.rows_per_s
        if rate is None or total is None or total < self._seen[-1][1]:
            return None
        return (total - self._seen[-1][1]) / rate
