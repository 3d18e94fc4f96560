"""The meter of a measured process: it counts jobs, and says on standard output what they took.

It starts with the first job after those that warm up, and ends with the last; start-up and end are nobody's figures.
"""

import json
import resource
import time


class Meter:
    """Counts the jobs of this process."""

    def __init__(self) -> None:
        self._left = 0
        self._warming = 0
        self._count = 0
        self._began_s = 0.0
        self._began_cpu_s = 0.0

    def expect(self, count: int, warming: int) -> None:
        """Say after so many jobs, and so many before them that are not counted, what the former took."""
        self._count, self._left, self._warming = count, count + warming, warming

    def begin(self) -> None:
        """A job begins."""
        if self._warming == 0:
            self._began_s, self._began_cpu_s = time.perf_counter(), cpu_s()
        self._warming -= 1

    def end(self) -> None:
        """A job ends."""
        self._left -= 1
        if self._left == 0:
            took_s, took_cpu_s = time.perf_counter() - self._began_s, cpu_s() - self._began_cpu_s
            print(json.dumps({"jobs_s": self._count / took_s, "cpu_us": took_cpu_s * 1e6 / self._count}), flush=True)


def cpu_s() -> float:
    """Processor time of all of this process's threads, in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


METER = Meter()
