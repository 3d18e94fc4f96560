"""The composition root: the only module that wires everything, and the one that finds the jobs.

`arq worker.main.WorkerSettings` runs the same jobs on arq's own worker; `heavylift run` on ours.
"""

import asyncio
import os
import socket
import sys
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from worker.core.clock import SystemClock
from worker.core.errors import SettingsError
from worker.core.settings import Settings, load_settings
from worker.database.engine import open_database
from worker.database.ledger import Ledger
from worker.database.migrate import check_version
from worker.database.reflect import complete_tables
from worker.declare.registry import REGISTRY, Registry
from worker.declare.tables import Tables, find_tables
from worker.queue.arq_log import quieten
from worker.queue.claiming import claiming
from worker.queue.filler import Filler
from worker.queue.functions import make_function
from worker.queue.holdings import held_runs
from worker.queue.in_flight import Hooks
from worker.queue.put_aside import putting_aside
from worker.queue.queue_worker import QueueWorker
from worker.queue.recall import recalling
from worker.queue.redis_settings import make_redis, open_redis, redis_settings
from worker.queue.restore_turn import marker_key
from worker.queue.wire import Codec, make_deserializer, make_serializer
from worker.run.governor import Governor
from worker.run.runner import Runner
from worker.run.stop_signal import StopSignal
from worker.run.telemetry import LogListener, apart, start_logging

RUNNER = "heavylift_runner"
STOP_SHARE = 0.8
"""Which share of WORKER_GRACE_S runs have to reach a chunk boundary before they are cancelled."""

SHORTEST_GRACE_S = 0.05
"""What is left of a WORKER_GRACE_S of 0, in seconds; at none at all arq cancels before runs hear of the stop."""

HEALTH_S = 10
"""How often a worker says that it lives, in seconds, where `arq --check` looks."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What the configuration declares: the jobs and the tables."""

    registry: Registry
    tables: Tables


def load_declared(settings: Settings) -> Declared:
    """Import the modules of WORKER_JOBS and WORKER_MODELS.

    Raises:
        SettingsError: a module cannot be imported from here.
        DeclarationError: what one declares cannot work.
    """
    if "" not in sys.path and os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds text
        # a console script does not look into the folder it is started in, where the user's own modules are
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - likewise
    tables = find_tables(settings.models, settings.allow)
    for module in settings.jobs:
        try:
            import_module(module)
        except ImportError as error:
            raise SettingsError(
                f"WORKER_JOBS names {module!r}, which cannot be imported from here ({error}). "
                "Start in the folder that holds it, or install it. For example WORKER_JOBS=jobs,myapp.jobs"
            ) from error
    return Declared(REGISTRY, tables)


def worker_name() -> str:
    """What this process calls itself in the ledger: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


def worker_options(settings: Settings, stop: StopSignal) -> dict[str, Any]:
    """Everything that arq's worker is told, ours or arq's own.

    Args:
        settings: as loaded.
        stop: set when the worker is to stop.
    """
    declared = load_declared(settings)

    async def start(ctx: dict[str, Any]) -> None:
        log = start_logging(settings.log, settings.log_level)
        quieten()
        name = worker_name()
        database = open_database(settings, name)
        try:
            await database.check()
            async with database.expected_to_answer():
                await check_version(database)
                tables = await complete_tables(database, declared.tables, settings)
        except BaseException:
            await database.dispose()
            raise
        emit = apart(LogListener(log))
        clock = SystemClock()
        ctx[RUNNER] = Runner(
            Ledger(database, settings, name),
            declared.registry,
            tables,
            settings,
            stop,
            clock,
            emit,
            log,
            partial(held_runs, ctx["redis"]),
            Governor(database, settings, clock, emit) if settings.governor else None,
        )
        log.info("worker_started", worker=name, jobs=sorted(declared.registry.specs), queue=settings.queue)

    async def finish(ctx: dict[str, Any]) -> None:
        runner: Runner | None = ctx.get(RUNNER)
        if runner is None:
            return  # the start failed, and why is what its caller must see
        await runner.ledger.database.dispose()
        runner.log.info("worker_stopped", worker=runner.ledger.worker)

    return {
        "functions": [make_function(spec, lambda ctx: ctx[RUNNER], settings) for spec in declared.registry],
        "queue_name": settings.queue,
        "max_jobs": settings.concurrency,
        "poll_delay": settings.poll_s,
        "health_check_interval": HEALTH_S,
        "job_serializer": make_serializer(Codec(settings.wire)),
        "job_deserializer": make_deserializer(),
        "on_startup": start,
        "on_shutdown": finish,
        "log_results": False,
    }


async def run_worker(settings: Settings, *, burst: bool = False) -> None:
    """Run our worker until it is told to stop, or, in a burst, until the queue is empty.

    Raises:
        HeavyliftError: it could not start; the message says what to change.
    """
    stop = StopSignal()
    options = worker_options(settings, stop)
    pool = await open_redis(settings, worker_name())
    registry = load_declared(settings).registry

    def ledger() -> Ledger:
        runner: Runner = worker.ctx[RUNNER]
        return runner.ledger

    async def ask_to_cancel(run_id: str) -> None:
        await ledger().ask_for(run_id, "cancel")

    clock = SystemClock()
    filler = Filler(pool, ledger, settings, registry, clock)

    worker = QueueWorker(
        redis_pool=pool,
        burst=burst,
        lease_s=settings.lease_s,
        stop=stop,
        hooks=Hooks(
            prepare=claiming(ledger, registry, settings),
            put_aside=putting_aside(ledger, settings, clock),
            abort=ask_to_cancel,
            recall=recalling(ledger, settings),
        ),
        restore=filler.fill,
        marker=marker_key(settings.queue),
        keep_payloads=True,
        allow_abort_jobs=True,
        # the rest of the grace is for runs to write down that they were cancelled
        job_completion_wait=max(SHORTEST_GRACE_S, settings.grace_s * STOP_SHARE),
        end_s=settings.grace_s * (1 - STOP_SHARE),
        **options,
    )
    try:
        await worker.async_run()
    except asyncio.CancelledError:
        # how arq's loop ends after a signal
        if not stop.is_set:
            raise
    finally:
        await worker.close()


def __getattr__(name: str) -> object:
    """`WorkerSettings`, made when arq asks for it: a mere import of this module must not need a configuration."""
    if name == "WorkerSettings":
        settings = load_settings()
        # the settings are for `arq --check`; the worker takes our pool, which does more than arq could be told
        connecting = {"redis_settings": redis_settings(settings), "redis_pool": make_redis(settings, worker_name())}
        return type("WorkerSettings", (), {**worker_options(settings, StopSignal()), **connecting})
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
