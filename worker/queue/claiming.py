"""The claims of one step of the queue, made in the ledger with one statement.

Owns the grouping. A delivery that spoils the statement for all is found by claiming them one by one.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from arq.utils import ms_to_datetime

from worker.core.errors import HeavyliftError
from worker.core.settings import Settings
from worker.database.claims import Claim, Claimed, Delivery
from worker.database.classify import classify
from worker.database.ledger import Ledger
from worker.declare.registry import Registry
from worker.queue.delivered import Delivered
from worker.queue.functions import Claims, delivery_of


def claiming(
    ledger_of: Callable[[], Ledger], registry: Registry, settings: Settings
) -> Callable[[Sequence[Delivered]], Coroutine[Any, Any, Claims]]:
    """What the queue calls once a step, with the deliveries that are about to begin.

    Args:
        ledger_of: the worker's ledger, once it has started.
        registry: the jobs that have runs in the ledger.
        settings: the queue's name.
    """

    async def claim(delivered: Sequence[Delivered]) -> Claims:
        found: dict[str, Claim | BaseException] = {}
        deliveries: list[Delivery] = []
        for one in delivered:
            spec, enqueued = registry.specs[one.name], ms_to_datetime(one.enqueued_ms)
            try:
                deliveries.append(delivery_of(spec, one.run_id, enqueued, one.args, one.kwargs, settings))
            except HeavyliftError as error:
                found[one.run_id] = error
        return {**found, **await claim_all(ledger_of(), deliveries)}

    return claim


async def claim_all(ledger: Ledger, deliveries: Sequence[Delivery]) -> Claims:
    """Claim runs with one statement.

    Returns:
        By run id what became of each: the claim, or the error where the database refuses that one for good.

    Raises:
        Exception: the database is away or overloaded, with whatever it raised: nothing has happened.
    """
    if not deliveries:
        return {}
    try:
        return by_id(await ledger.claim(deliveries))
    except ledger.database.raises as error:
        if len(deliveries) == 1 and not _is_transient(ledger, error):
            return {deliveries[0].run_id: error}
        if _is_transient(ledger, error):
            raise
    each: dict[str, Claim | BaseException] = {}
    for delivery in deliveries:
        each |= await claim_all(ledger, [delivery])
    return each


def by_id(claims: Sequence[Claim]) -> Mapping[str, Claim]:
    """Claims by the run's id."""
    return {claim.fence.run_id if isinstance(claim, Claimed) else claim.run_id: claim for claim in claims}


def _is_transient(ledger: Ledger, error: BaseException) -> bool:
    return classify(error, ledger.database.dialect.errors).transient
