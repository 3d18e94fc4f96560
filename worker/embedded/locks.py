"""Locks that the kernel releases when their holders are gone, killed or not.

Owns taking them. A lock belongs to the open file, so a child that inherits the descriptor holds it too.
"""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

_POLL_S = 0.02


def try_lock(path: Path, *, shared: bool = False) -> int | None:
    """Take a lock on a file, made if missing, without waiting.

    Args:
        path: the file.
        shared: whether others may hold it too, shared.

    Returns:
        The descriptor that holds the lock until it is closed everywhere; None where somebody else holds the lock.

    Raises:
        OSError: the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def poll_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Ask until the condition holds or the time is up; for things outside this process that send no event.

    Returns:
        Whether the condition came to hold.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
