"""When refused rows are no accident any more: the pure decision that ends a run whose source does not fit its table.

Owns the ratio. GitLab's batched migrations fail by the same one: more than half of at least fifty
(`MAXIMUM_FAILED_RATIO`, `MINIMUM_JOBS`).
"""

from typing import Final

from worker.core.errors import TooManyRefusedError

LEAST_READ: Final = 50
"""Rows that must have been read before a ratio means anything."""

MOST_REFUSED: Final = 0.5
"""The share of refused rows that is still taken for an accident."""


def check_refused(run_id: str, read: int, refused: int) -> None:
    """See that a run's rows mostly fit.

    Args:
        run_id: for the message.
        read: rows of the run so far, refused ones counted.
        refused: of these, the ones in quarantine.

    Raises:
        TooManyRefusedError: more than half of at least fifty were refused.
    """
    if read >= LEAST_READ and refused > read * MOST_REFUSED:
        raise TooManyRefusedError(
            f"{refused:,} of {read:,} rows were refused, so the run was stopped: the source does not seem to fit the "
            f"table. What was committed stays. See why: heavylift quarantine {run_id}; after a fix run just these "
            f"again: heavylift quarantine {run_id} --replay"
        )
