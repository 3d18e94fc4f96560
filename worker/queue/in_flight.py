"""What a worker has under way: one task a delivery, and the endings that Redis has not been told yet.

Owns the tasks, arq's hooks around them, abortion, and what becomes of a delivery that cannot begin here. Whatever a job
or a hook raises ends that delivery's task, never the worker. Refuses Redis: endings are collected here and written by
the next step.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

from arq.jobs import DeserializationError

from worker.database.aside import UNKNOWN_JOB
from worker.queue.aside import Aside
from worker.queue.delivered import Delivered, is_aborted, read, refusal
from worker.queue.errands import Errands, call_hook, error_of
from worker.queue.execution import Verdict, conclude, finish, put_back, run
from worker.queue.leases import LeaseKeeper
from worker.queue.step import Ending, Kind, Taken

DELIVERED: Final = "heavylift_delivered"
"""Where a job finds its delivery, in arq's context."""

PREPARED: Final = "heavylift_prepared"
"""Where a job finds, in arq's context, the task that prepares all deliveries of its step."""

RECALLED_AGAIN_MS: Final = 1_000
"""In how many ms a delivery comes again whose payload could not be looked for."""

logger = logging.getLogger("arq.worker")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the composition root adds to a delivery's way; each may be None.

    Attributes:
        prepare: called once a step with the deliveries that are about to begin; each finds its task as `PREPARED`.
        put_aside: told of a delivery that cannot begin here (its name is `<unknown>` where it could not be read), why,
            and in how many ms it is tried again.
        abort: asks a running job to end by itself; without it, it is cancelled.
        recall: finds the payload of a delivery that Redis has lost.
    """

    prepare: Callable[[Sequence[Delivered]], Awaitable[Any]] | None = None
    put_aside: Callable[[Delivered, str, int], Coroutine[Any, Any, None]] | None = None
    abort: Callable[[str], Coroutine[Any, Any, None]] | None = None
    recall: Callable[[str], Coroutine[Any, Any, bytes | None]] | None = None


NO_HOOKS: Final = Hooks()


class InFlight:
    """A worker's deliveries, from their claim to their ending.

    Args:
        worker: arq's worker, whose attributes say how (functions, hooks, timeouts, codecs) and whose counters count.
        hooks: the composition root's.
        leases: renewed while a delivery is under way.
        changed: set when there is something to write, or a slot free.
        first_of_its_tick: whether a cron job's delivery is the first of its tick.
        errands: for what no delivery waits for.

    Attributes:
        stopping: whether the worker is about to end; what ends now through a cancellation was interrupted.
        winding_up: how many have ended, and are waited for by hooks.
    """

    def __init__(
        self,
        worker: Any,  # noqa: ANN401 - arq's, whose attributes are set at run time
        hooks: Hooks,
        leases: LeaseKeeper,
        changed: asyncio.Event,
        first_of_its_tick: Callable[[Delivered], Awaitable[bool]],
        errands: Errands,
    ) -> None:
        self.stopping = False
        self.winding_up = 0
        self._worker = worker
        self._hooks = hooks
        self._leases = leases
        self._changed = changed
        self._first_of_its_tick = first_of_its_tick
        self._errands = errands
        self._deliveries: dict[str, Delivered] = {}
        self._endings: dict[str, Ending] = {}
        self._written: dict[str, asyncio.Future[None]] = {}
        self._aside = Aside()
        self._winding: dict[str, Ending] = {}

    def held_beside(self, endings: Sequence[Ending]) -> list[str]:
        """The ids under way, and those whose ending waits to be written after these."""
        ending = {one.run_id for one in endings}
        return [*self._worker.tasks, *(run_id for run_id in self._endings if run_id not in ending)]

    @property
    def busy(self) -> int:
        """How many are under way."""
        return len(self._worker.tasks)

    @property
    def ended(self) -> int:
        """How many endings Redis has not been told."""
        return len(self._endings)

    @property
    def is_busy(self) -> bool:
        """Whether anything is under way."""
        return bool(self._worker.tasks)

    @property
    def has_endings(self) -> bool:
        """Whether there is something to write."""
        return bool(self._endings)

    @property
    def aside(self) -> list[str]:
        """The ids that this worker has put aside, as far as it remembers; some may have left the queue since."""
        return list(self._aside)

    def endings(self, most: int) -> list[Ending]:
        """The oldest endings that Redis has not been told; `written` says that it has."""
        return list(islice(self._endings.values(), most))

    def written(self, endings: Sequence[Ending]) -> None:
        """Endings have reached Redis."""
        for ending in endings:
            self._endings.pop(ending.run_id, None)
            self._leases.drop(ending.run_id)
            waiting = self._written.pop(ending.run_id, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)

    def begin(self, taken: Sequence[Taken]) -> None:
        """Start what a step has claimed."""
        ready: list[Delivered] = []
        for one in taken:
            self._leases.hold(one.run_id, None)
            if one.payload is None and self._hooks.recall is not None:
                self._track(one.run_id, self._hooks.recall(one.run_id), partial(self._recalled, one))
            else:
                self._read(one, ready)
        self._start(ready)

    def give_back(self, taken: Sequence[Taken]) -> None:
        """Put back what was claimed and shall not begin."""
        for one in taken:
            self._record(put_back(Delivered(one), counted=False))

    def abort(self, asked: Mapping[str, int]) -> None:
        """End the deliveries whose abortion was asked for, if this worker allows it.

        Args:
            asked: when, in ms since 1970, by run id.
        """
        if not self._worker.allow_abort_jobs:
            return
        for run_id in asked.keys() & self._deliveries.keys():
            delivered = self._deliveries[run_id]
            task = self._worker.job_tasks.get(run_id)
            if delivered.aborting or task is None or not is_aborted(asked[run_id], delivered.enqueued_ms):
                continue
            delivered.aborting = True
            self._worker.aborting_tasks.add(run_id)
            if self._hooks.abort is None:
                task.cancel()
            else:
                self._errands.send(self._hooks.abort(run_id), "abort")

    def _read(self, taken: Taken, ready: list[Delivered]) -> None:
        worker = self._worker
        try:
            delivered = read(taken, worker, worker.job_deserializer)
        except DeserializationError as error:
            logger.warning("deserializing job %s failed: %s", taken.run_id, error.__cause__)
            self._put_aside(Delivered(taken), f"its payload cannot be read: {error.__cause__}")
            return
        refused = refusal(delivered, worker, aborts=self._hooks.abort is None)
        if refused is not None:
            self._aside.forget(delivered.run_id)
            worker.jobs_failed += 1
            self._record(finish(delivered, refused, worker, success=False))
        elif delivered.function is None:
            logger.warning("job %s, function %r not found", delivered.run_id, delivered.name)
            known = ", ".join(sorted(worker.functions))
            self._put_aside(delivered, f"job {delivered.name!r} {UNKNOWN_JOB}, which knows {known}")
        else:
            self._aside.forget(delivered.run_id)
            ready.append(delivered)

    def _start(self, ready: Sequence[Delivered]) -> None:
        if not ready:
            return
        added: dict[str, object] = {}
        if self._hooks.prepare is not None:
            preparing = asyncio.ensure_future(self._hooks.prepare(ready))
            # one that nobody awaits any more must not be reported as an error that nobody saw
            preparing.add_done_callback(error_of)
            added[PREPARED] = preparing
        for delivered in ready:
            context = {**self._worker.ctx, **delivered.context(), **added, DELIVERED: delivered}
            self._deliveries[delivered.run_id] = delivered
            self._leases.hold(delivered.run_id, delivered.timeout_s(self._worker.job_timeout_s))
            self._track(delivered.run_id, self._work(delivered, context), partial(self._worked, delivered, context))

    async def _work(self, delivered: Delivered, context: dict[str, Any]) -> object:
        worker = self._worker
        if worker.on_job_start:
            await call_hook(worker.on_job_start, context, "on_job_start")
        if delivered.is_cron and not await self._first_of_its_tick(delivered):
            raise _Superfluous
        worker.job_tasks[delivered.run_id] = asyncio.current_task()
        return await run(delivered, context, worker)

    def _worked(self, delivered: Delivered, context: dict[str, Any], task: asyncio.Task[Any]) -> None:
        worker = self._worker
        worker.job_tasks.pop(delivered.run_id, None)
        self._deliveries.pop(delivered.run_id, None)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if isinstance(error, _Superfluous):
            self._record(Ending(delivered.run_id, delivered.taken.score, Kind.FINISH))
            return
        delivered.stopping = self.stopping
        verdict, ending = conclude(delivered, error, None if error else task.result(), worker)
        if delivered.aborting:
            worker.aborting_tasks.discard(delivered.run_id)
        self._count(verdict)
        if worker.on_job_end or worker.after_job_end:
            self.winding_up += 1
            self._winding[delivered.run_id] = ending
            self._track(delivered.run_id, self._wind_up(delivered.run_id, context), partial(self._wound_up, delivered))
        else:
            self._record(ending)

    def _count(self, verdict: Verdict) -> None:
        counter = f"jobs_{verdict.value}"
        setattr(self._worker, counter, getattr(self._worker, counter) + 1)

    async def _wind_up(self, run_id: str, context: dict[str, Any]) -> None:
        worker = self._worker
        if worker.on_job_end:
            await call_hook(worker.on_job_end, context, "on_job_end")
        told = self._written[run_id] = asyncio.get_running_loop().create_future()
        self._record(self._winding.pop(run_id))
        if worker.after_job_end:
            await told
            await call_hook(worker.after_job_end, context, "after_job_end")

    def _wound_up(self, delivered: Delivered, task: asyncio.Task[None]) -> None:
        self.winding_up -= 1
        # the job has ended, whatever became of its hooks
        ending = self._winding.pop(delivered.run_id, None)
        if ending is not None:
            self._record(ending)
        error_of(task)

    def _recalled(self, taken: Taken, task: asyncio.Task[bytes | None]) -> None:
        if task.cancelled() or task.exception() is not None:
            logger.error("job %s has no payload, and it could not be looked for", taken.run_id, exc_info=error_of(task))
            self._record(put_back(Delivered(taken), counted=False, again_ms=RECALLED_AGAIN_MS))
            return
        ready: list[Delivered] = []
        self._read(replace(taken, payload=task.result()), ready)
        self._start(ready)

    def _put_aside(self, delivered: Delivered, why: str) -> None:
        again_ms = self._aside.pause_ms(delivered.run_id)
        self._record(put_back(delivered, counted=False, again_ms=again_ms))
        if self._hooks.put_aside is not None:
            self._errands.send(self._hooks.put_aside(delivered, why, again_ms), "what puts a job aside")

    def _record(self, ending: Ending) -> None:
        self._endings[ending.run_id] = ending
        self._changed.set()

    def _track(self, run_id: str, work: Coroutine[Any, Any, T], ended: Callable[[asyncio.Task[T]], None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._worker.tasks[run_id] = task
        task.add_done_callback(partial(self._untrack, run_id, ended))

    def _untrack(self, run_id: str, ended: Callable[[asyncio.Task[T]], None], task: asyncio.Task[T]) -> None:
        if self._worker.tasks.get(run_id) is task:
            del self._worker.tasks[run_id]
        ended(task)
        self._changed.set()


class _Superfluous(Exception):  # noqa: N818 - no error
    """A cron job's tick that another delivery has had."""
