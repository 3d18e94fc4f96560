"""The payload of a delivery that Redis has lost, made again from the ledger.

Owns what a step is given in its place. Redis itself gets it back from the next sweep.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from worker.core.settings import Settings
from worker.database.claims import UNREADABLE
from worker.database.ledger import Ledger
from worker.database.unfinished import read_known
from worker.queue.deliver import restored_payload


def recalling(
    ledger_of: Callable[[], Ledger], settings: Settings
) -> Callable[[str], Coroutine[Any, Any, bytes | None]]:
    """What the queue asks for the payload of a run that it has claimed without one.

    Args:
        ledger_of: the worker's ledger, once it has started.
        settings: the codec, and the database's timeouts.

    Returns:
        A function of the run's id. It returns None where the ledger does not know the run, or never had its
        parameters. A run that is over has a payload as well: its claim finds the stored result, which is the answer.
        It raises what the database raises.
    """

    async def recall(run_id: str) -> bytes | None:
        known = await read_known(ledger_of().database, settings, run_id)
        if known is None or known.delivery.job == UNREADABLE:
            return None
        return restored_payload(known, settings)

    return recall
