"""The client: writes runs into the ledger, then into Redis; reads them; waits for them.

Owns the order: a run that the ledger knows is never lost, whatever happens to Redis afterwards.
"""

import asyncio
import getpass
import json
import os
import shlex
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from arq.connections import ArqRedis

from worker.client.deliveries import Deliverer
from worker.client.orders import OrderForm, batches
from worker.core.clock import Clock, SystemClock, to_ms
from worker.core.errors import ErrorKind, ParametersError, RequestError, UnreachableError
from worker.core.options import RunOptions
from worker.core.outcomes import Status
from worker.core.settings import Settings
from worker.database.claims import Delivery, Terms
from worker.database.classify import classify
from worker.database.engine import Database, open_database
from worker.database.ledger import Ledger
from worker.database.migrate import check_version
from worker.database.quarantine import QuarantinedRow, read_quarantine, read_replayable
from worker.database.records import RunPage, RunRecord, read_runs
from worker.database.reflect import complete_tables
from worker.declare.registry import Registry
from worker.declare.tables import Tables
from worker.queue.redis_settings import open_redis


@dataclass(frozen=True, slots=True)
class Client:
    """A connected client. Get one from `open_client`.

    Attributes:
        settings: as given.
        database: the ledger's.
        ledger: where runs are written down first.
        redis: None for a client that only looks.
        registry: the jobs that may be enqueued.
        tables: the tables known here; None leaves their check to the worker.
        clock: time.
    """

    settings: Settings
    database: Database
    ledger: Ledger
    redis: ArqRedis | None
    registry: Registry
    tables: Tables | None
    clock: Clock = field(default_factory=SystemClock)

    async def enqueue(
        self,
        job: str,
        params: Mapping[str, object] | None = None,
        *,
        run_id: str | None = None,
        delay: timedelta | None = None,
        options: Mapping[str, object] | None = None,
        enqueued_by: str | None = None,
    ) -> RunRecord:
        """Enqueue a run.

        Args:
            job: a registered job's name.
            params: its parameters by name.
            run_id: the run's id; a random one unless given. An id that exists with the same parameters returns that
                run instead of making another.
            delay: how long it must wait at least.
            options: run options, as `worker.core.options.RunOptions` has them.
            enqueued_by: who asks, for the run's record and audit rows; this process's user and host unless given.

        Returns:
            The run, as the ledger has it.

        Raises:
            RequestError: unknown job or parameter, a value that does not fit, a payload too large, an id in use.
            UnreachableError: the database or Redis did not answer.
        """
        (record,) = await self.enqueue_many(
            job,
            [params or {}],
            run_ids=[run_id] if run_id is not None else None,
            delay=delay,
            options=options,
            enqueued_by=enqueued_by,
        )
        return record

    async def enqueue_many(
        self,
        job: str,
        params: Sequence[Mapping[str, object]],
        *,
        run_ids: Sequence[str] | None = None,
        delay: timedelta | None = None,
        options: Mapping[str, object] | None = None,
        enqueued_by: str | None = None,
    ) -> list[RunRecord]:
        """Enqueue runs of one job: one statement and one round trip to Redis for each 500 of them.

        All of them are written down, or none. What was written down then goes to Redis; if that fails in between, the
        same call with the same ids goes on where it ended.

        Args:
            job: a registered job's name.
            params: each run's parameters by name.
            run_ids: each run's id, in the order of `params`; random ones unless given. An id that exists with the same
                parameters, or comes twice, is one run.
            delay: how long they must wait at least.
            options: run options of all of them, as `worker.core.options.RunOptions` has them.
            enqueued_by: who asks, for the runs' records and audit rows; this process's user and host unless given.

        Returns:
            The runs, as the ledger has them, in the order of `params`.

        Raises:
            RequestError: unknown job or parameter, a value that does not fit, a payload too large, an id in use. A note
                tells at which index.
            UnreachableError: the database or Redis did not answer.
        """
        if self.redis is None:
            raise ParametersError("This client was opened to look only; open it with redis=True to enqueue")
        now = self.clock.now()
        due = now + delay if delay else None
        chosen = RunOptions.parse(options or {})
        form = OrderForm(self.registry.get(job), chosen, self.tables, self.settings, to_ms(now))
        orders = form.fill_all(params, [None] * len(params) if run_ids is None else run_ids)
        cut = list(batches(orders))
        deliveries = [[order.delivery for order in batch] for batch in cut]
        found = await self._write_down(deliveries, Terms(due, enqueued_by or _this_user()))
        await Deliverer(self.redis, self.settings).deliver(cut, found, due)
        return [found[order.delivery.run_id] for order in orders]

    async def _write_down(self, deliveries: Sequence[Sequence[Delivery]], terms: Terms) -> Mapping[str, RunRecord]:
        """Write runs into the ledger; once more where the connection was lost, since an id is written only once."""
        for once_more in (True, False):
            try:
                return await self.ledger.enqueue(deliveries, terms)
            except self.database.raises as error:
                if classify(error, self.database.dialect.errors) is not ErrorKind.CONNECTION:
                    raise
                if not once_more:
                    raise UnreachableError(
                        f"The database was lost while runs were enqueued: {type(error).__name__}: {error}. Enqueue "
                        "them again under the same ids once DATABASE_URL answers; none will be doubled"
                    ) from error
                await self.database.reconnect()
        raise AssertionError("unreachable: the last try returns or raises")

    async def get(self, run_id: str) -> RunRecord:
        """One run.

        Raises:
            UnknownRunError: the ledger knows none of that id.
        """
        return await self.ledger.read(run_id)

    async def runs(
        self, *, status: Status | None = None, job: str | None = None, page: int = 1, size: int = 50
    ) -> RunPage:
        """Runs, newest first; see `read_runs`."""
        async with self.database.reading() as connection:
            return await read_runs(connection, status=status, job=job, page=page, size=size)

    async def quarantine(self, run_id: str, *, after_id: int = 0, limit: int = 100) -> list[QuarantinedRow]:
        """Refused rows of a run, in the order in which they were met."""
        async with self.database.reading() as connection:
            return await read_quarantine(connection, run_id, after_id=after_id, limit=limit)

    async def replay(self, run_id: str, *, enqueued_by: str | None = None) -> RunRecord | None:
        """Enqueue a new run of the same job with the same parameters and options, over a run's refused rows alone.

        Each row is tried again once: it is marked in the transaction of the chunk that deals with it. What is refused
        again is in the new run's quarantine.

        Args:
            run_id: the run whose rows were refused.
            enqueued_by: who asks; this process's user and host unless given.

        Returns:
            The new run; None where no row is left to replay.

        Raises:
            UnknownRunError: the ledger knows none of that id.
            RequestError: its rows did not come from a source.
        """
        record = await self.get(run_id)
        if "source" not in self.registry.get(record.job).names or record.params.get("source") is None:
            raise RequestError(
                f"The rows of run {run_id!r} did not come from a source: they are where job {record.job!r} found them. "
                "Remove what they were refused for, and run it again with the same parameters: "
                f"heavylift enqueue {record.job} {shlex.quote(json.dumps(record.params, ensure_ascii=False))}"
            )
        async with self.database.reading() as connection:
            options, left = await read_replayable(connection, run_id)
        if not left:
            return None
        params = {**record.params, "source": {"quarantine": run_id}}
        return await self.enqueue(record.job, params, options=options, enqueued_by=enqueued_by)

    async def follow(self, run_id: str, *, every_s: float = 0.2) -> AsyncIterator[RunRecord]:
        """A run's record again and again, until it has ended.

        Args:
            run_id: the run.
            every_s: seconds between looks.

        Yields:
            Records; the last one is of a run that has finished.
        """
        while True:
            record = await self.get(run_id)
            yield record
            if record.status.finished:
                return
            await asyncio.sleep(every_s)

    async def wait(self, run_id: str, *, every_s: float = 0.2) -> RunRecord:
        """Wait until a run has ended, and return its record."""
        while not (record := await self.get(run_id)).status.finished:  # noqa: ASYNC110 - another process ends it
            await asyncio.sleep(every_s)
        return record


@asynccontextmanager
async def open_client(
    settings: Settings, registry: Registry, tables: Tables | None = None, *, redis: bool = True
) -> AsyncIterator[Client]:
    """A client connected to the database and, to enqueue, to Redis.

    Args:
        settings: DATABASE_URL, REDIS_URL, the queue and the bounds.
        registry: the jobs that may be enqueued.
        tables: the models' tables known here, to refuse unknown ones at once; None leaves that to the worker.
        redis: whether to connect to Redis; False for a client that only looks.

    Raises:
        SettingsError: an address is missing or malformed.
        UnreachableError: a server did not answer.
        LedgerVersionError: the ledger is missing or of another version.
    """
    database = open_database(settings, "client")
    try:
        await database.check()
        await check_version(database)
        pool = await open_redis(settings) if redis else None
        try:
            known = None if tables is None else await complete_tables(database, tables, settings)
            yield Client(settings, database, Ledger(database, settings, "client"), pool, registry, known)
        finally:
            if pool is not None:
                await pool.aclose(close_connection_pool=True)
    finally:
        await database.dispose()


def _this_user() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # a container's arbitrary user id has no name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"[:255]
