"""The queue and the ledger as one state machine: whatever happens in whatever order, each chunk takes effect once.

Hypothesis chooses what clients, workers and faults do next, and shrinks what goes wrong to the shortest story.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, seed
from hypothesis import settings as sizes
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.chaos_size import chance, sized
from tests.support.queue_hand import Hand
from tests.support.queue_model import BY_WIRE, HANDS, OURS, Model
from worker.core.settings import Settings
from worker.database.engine import open_database
from worker.queue.redis_settings import open_redis

pytestmark = [pytest.mark.storm, pytest.mark.timeout(900)]

EXAMPLES, STEPS = sized(30, 200), 40
"""Stories; things that happen in each."""

MOST_DISTURBED = 6
"""How often clients and Redis may disturb a story, a flush counting twice: what follows must have time to happen."""

WORKER = st.integers(0, HANDS - 1)
ANY = st.integers(0, 59)
"""Which of those that there are."""

THEN = st.sampled_from(["claim", "claim", "claim", "wait", "the reply is lost"])
"""What follows a step."""

ACT = st.sampled_from(
    ["work"] * 4
    + ["take over"] * 3
    + ["the COMMIT is lost", "the reply is lost", "interrupt", "crash", "lapse", "renew"]
)
"""What becomes of a run that is held; what is named more than once is likelier."""

T = TypeVar("T")


class World:
    """The stores of one test, and an event loop to reach them by: a state machine's rules are synchronous."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        self._database = open_database(settings, "model")
        self._redis = self.do(open_redis(settings))
        self.model = Model(self._database, self._redis, settings)

    def do(self, work: Coroutine[object, object, T]) -> T:
        """Await something."""
        return self._loop.run_until_complete(work)

    def close(self) -> None:
        """Close both pools, and the loop."""
        self.do(self._redis.aclose(close_connection_pool=True))
        self.do(self._database.dispose())
        self._loop.close()


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    """Both stores."""
    opened = World(settings)
    yield opened
    opened.close()


class QueueAndLedger(RuleBasedStateMachine):
    """What may happen to a few runs; see `Model` for what each of it means."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.model = world.model
        self._world = world
        self._sound = True
        self._disturbed = 0
        self._do(self.model.begin())

    @initialize(run_ids=st.sets(st.sampled_from(OURS), min_size=2))
    def enqueue_some(self, run_ids: set[str]) -> None:
        """There is something to do from the beginning."""
        for run_id in sorted(run_ids):
            self._do(self.model.enqueue(run_id, deliver_it=True))

    @precondition(lambda self: self._disturbed < MOST_DISTURBED)
    @rule(run_id=st.sampled_from(OURS), deliver_it=st.booleans())
    def enqueue(self, run_id: str, deliver_it: bool) -> None:  # noqa: FBT001 - Hypothesis passes by name
        """Our client enqueues, for the first time or again."""
        self._disturbed += 1
        self._do(self.model.enqueue(run_id, deliver_it=deliver_it))

    @precondition(lambda self: self.new_by_wire)
    @rule(which=ANY)
    def enqueue_by_wire(self, which: int) -> None:
        """A vanilla client enqueues; once, as a later enqueueing may be a new run."""
        self._do(self.model.enqueue_by_wire(self.new_by_wire[which % len(self.new_by_wire)]))

    @precondition(lambda self: self.model.is_anything_queued)
    @rule(worker=WORKER, want=st.integers(1, 4), then=THEN)
    def step(self, worker: int, want: int, then: str) -> None:
        """A worker tells Redis how runs ended, and claims there, then in the ledger; either reply may be late."""
        hand = self.model.hands[worker]
        self._do(self.model.pass_time())
        self._do(hand.step(want, lost=then == "the reply is lost"))
        if then == "claim":
            self._do(self.model.claim(hand))

    @precondition(lambda self: any(hand.taken for hand in self.model.hands))
    @rule(worker=WORKER)
    def claim(self, worker: int) -> None:
        """A worker claims in the ledger what it has claimed in Redis some time ago."""
        able = [hand for hand in self.model.hands if hand.taken]
        self._do(self.model.claim(able[worker % len(able)]))

    @precondition(lambda self: self.held)
    @rule(which=ANY, act=ACT, joint=st.booleans(), worker=WORKER)
    def go_on(self, which: int, act: str, joint: bool, worker: int) -> None:  # noqa: FBT001 - likewise
        """Something becomes of a run that a worker believes to hold, by the newest claim or by an older one."""
        hand, run_id = self.held[which % len(self.held)]
        model = self.model
        match act:
            case "work":
                self._do(model.work(hand, run_id, joint=joint))
            case "the COMMIT is lost" | "the reply is lost":
                self._do(model.lose_commit(hand, run_id, joint=joint, arrived=act == "the reply is lost"))
            case "interrupt":
                self._do(model.interrupt(hand, run_id))
            case "crash":
                hand.start()
                self._do(model.lapse(run_id))
            case "lapse":
                self._do(model.lapse(run_id))
            case "renew":
                self._do(hand.renew())
            case _:
                self._do(model.take_over(run_id, model.hands[worker]))

    @precondition(lambda self: self._disturbed < MOST_DISTURBED)
    @rule(restored=st.booleans())
    def flush(self, restored: bool) -> None:  # noqa: FBT001 - likewise
        """Redis loses everything, and is filled again at once or later."""
        self._disturbed += 2
        self._do(self.model.flush())
        if restored:
            self._do(self.model.restore())

    @precondition(lambda self: any(run.known and not run.delivered for run in self.model.runs.values()))
    @rule()
    def restore(self) -> None:
        """A sweep is due."""
        self._do(self.model.restore())

    @invariant()
    def both_stores_agree(self) -> None:
        """Nothing was done twice, skipped, lost or begun again."""
        if self._sound:
            self._do(self.model.check())

    def teardown(self) -> None:
        """Whatever has happened, everything comes to its end."""
        try:
            if self._sound:
                self._do(self.model.drain())
        finally:
            self._world.do(self.model.close())

    @property
    def held(self) -> list[tuple[Hand, str]]:
        """What workers believe to hold."""
        return [(hand, run_id) for hand in self.model.hands for run_id in hand.held]

    @property
    def new_by_wire(self) -> list[str]:
        """Those that no vanilla client has enqueued yet."""
        return [run_id for run_id in BY_WIRE if run_id not in self.model.by_wire]

    def _do(self, work: Coroutine[object, object, T]) -> T:
        # a story that has gone wrong ends there: what it fails with later would hide why
        self._sound = False
        found = self._world.do(work)
        self._sound = True
        return found


def test_whatever_happens_in_whatever_order(world: World) -> None:
    """Each chunk takes effect once, no stale claim any, and every run ends, whatever Hypothesis thinks of."""
    story = seed(chance("model").getrandbits(32))(lambda: QueueAndLedger(world))
    run_state_machine_as_test(
        story,  # type: ignore[arg-type]  # any function that makes one will do
        settings=sizes(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
