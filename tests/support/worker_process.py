"""A worker as a user starts it: an interpreter of its own, from nothing. `forge` makes many in little time."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def worker_process(environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker for as long as the block lasts, killed at its end if it still lives.

    Args:
        environment: all of its environment.
        log: the file that its output is added to.
    """
    with log.open("ab") as out:
        process = subprocess.Popen([sys.executable, "-m", "worker.cli", "run"], env=environment, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
