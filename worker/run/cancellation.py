"""Whether the task at hand was told to end, which it may not have been left to notice.

Owns the answer. On Python 3.11 `asyncio.wait_for`, which redis-py awaits when it sends, returns instead of raising
where its future is done in the very moment of the cancellation (CPython issue 86296, mended in 3.12). The task then
goes on as if nothing had been said; its count of cancellations alone still tells.
"""

import asyncio


def is_cancelled() -> bool:
    """Whether somebody has asked the current task to end, and nobody has taken that back."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def heed_cancellation() -> None:
    """End here, if the current task was told to end and did not hear of it; loops call this once a turn.

    Raises:
        asyncio.CancelledError: it was.
    """
    if is_cancelled():
        raise asyncio.CancelledError
