"""What tests read from the outcome of a run: counts that must add up, or the one line that it failed with."""

from collections.abc import Sequence

from worker.core.outcomes import Failed, Outcome, Succeeded

UPSERT = ("inserted", "updated", "unchanged", "duplicates", "quarantined")
"""What becomes of the rows that `bulk_upsert` reads."""


def counts(outcome: Outcome, parts: Sequence[str] = UPSERT) -> dict[str, int]:
    """The counts of a run that succeeded, without the zeros; they must add up.

    Args:
        outcome: of the run.
        parts: what the rows that it read are counted as, in the order of its result.
    """
    assert isinstance(outcome, Succeeded), outcome
    assert isinstance(outcome.result, dict)
    assert list(outcome.result) == ["read", *parts]
    read, *counted = outcome.result.values()
    assert read == sum(counted)
    assert min(counted) >= 0
    return {name: count for name, count in outcome.result.items() if count}


def message(outcome: Outcome) -> str:
    """What a run failed with: one line."""
    assert isinstance(outcome, Failed), outcome
    assert "\n" not in outcome.error.message
    return outcome.error.message
