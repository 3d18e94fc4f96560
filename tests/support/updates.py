"""What the tests of `batch_update` share: deliveries, and counts that must add up."""

from collections.abc import Mapping

from tests.support import outcomes
from worker.core.outcomes import Outcome
from worker.database.claims import Delivery


def delivery(params: Mapping[str, object], run_id: str = "u", options: Mapping[str, object] | None = None) -> Delivery:
    """A delivery of the job, on the table of items unless another is named."""
    return Delivery(run_id, "batch_update", {"table": "item", **params}, dict(options or {}), "arq:queue", 1)


def update(run_id: str = "u", options: Mapping[str, object] | None = None, **params: object) -> Delivery:
    """A delivery of the job with parameters that are known where it is written."""
    return delivery(params, run_id, options)


def counts(outcome: Outcome) -> dict[str, int]:
    """The counts of a run that succeeded, without the zeros; they must add up."""
    return outcomes.counts(outcome, ("updated", "unchanged", "missing", "duplicates", "quarantined"))
