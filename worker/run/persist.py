"""Writing an outcome down, even while the database flickers.

Owns the patience. A success is not its business, as it was committed with the last rows, nor is a run that a newer
claim holds.
"""

from dataclasses import dataclass

from worker.core.clock import Clock
from worker.core.events import Listener, OutcomeNotSaved
from worker.core.outcomes import LeaseLost, Outcome
from worker.core.retry import backoff_s
from worker.database.claims import Claimed
from worker.database.classify import describe
from worker.database.ledger import Ledger
from worker.run.stop_signal import StopSignal

TRIES = 8
"""With pauses of at most 0.1, 0.2, 0.4 ... s about ten seconds: a failover. After that the next claim settles it."""

BASE_S = 0.1
CAP_S = 5.0


@dataclass(frozen=True, slots=True)
class Persister:
    """Writes outcomes down for one worker."""

    ledger: Ledger
    clock: Clock
    stop: StopSignal
    emit: Listener

    async def persist(self, claimed: Claimed, outcome: Outcome) -> Outcome:
        """Write an outcome down where the fence still holds.

        Returns:
            The outcome; `LeaseLost` where a newer claim holds the run. An outcome that the database would not take
            is reported as an event and returned: the ledger shows the run as running until it is claimed again.
        """
        for tries in range(1, TRIES + 1):
            try:
                written = await self.ledger.end(claimed, outcome)
                # an earlier try's COMMIT may have landed though its reply was lost
                return outcome if written or (tries > 1 and await self.ledger.has_ended(claimed)) else LeaseLost()
            except self.ledger.database.raises as error:
                if tries == TRIES or self.stop.is_set:
                    said = f"{describe(error).type}: {describe(error).message}"
                    self.emit(OutcomeNotSaved(claimed.fence.run_id, claimed.job, outcome, said))
                    return outcome
            await self.stop.sleep(backoff_s(tries, BASE_S, CAP_S, self.clock.rand()))
        raise AssertionError("unreachable: the last try returns")
