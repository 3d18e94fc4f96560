"""The client: writes a run into the ledger, then into Redis; reads runs; waits for them.

Owns the order: a run that the ledger knows is never lost, whatever happens to Redis afterwards.
"""

import asyncio
import getpass
import json
import os
import shlex
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import uuid4

from arq.connections import ArqRedis
from redis.exceptions import RedisError

from worker.core.clock import Clock, SystemClock, to_ms
from worker.core.errors import ParametersError, RequestError, UnreachableError
from worker.core.options import RunOptions
from worker.core.outcomes import Status
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database, open_database
from worker.database.ledger import Ledger
from worker.database.migrate import check_version
from worker.database.quarantine import QuarantinedRow, read_quarantine, read_replayable
from worker.database.records import RunPage, RunRecord, read_runs
from worker.database.reflect import complete_tables
from worker.declare.registry import Registry
from worker.declare.tables import Tables
from worker.queue.deliver import deliver, encode_delivery
from worker.queue.plain_data import json_safe
from worker.queue.redis_settings import open_redis

LONGEST_ID = 200
"""Characters of a run id: room is left for the `~1` of an id that is used again."""


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
        spec = self.registry.get(job)
        validated = spec.validate(params or {})
        chosen = RunOptions.parse(options or {})
        if spec.check is not None and self.tables is not None:
            spec.check(validated, self.tables, self.settings, chosen)
        now = self.clock.now()
        due = now + delay if delay else None
        delivery = Delivery(
            run_id=_checked(run_id),
            job=job,
            params=json_safe(spec.dump(validated)),
            options=chosen.model_dump(exclude_defaults=True),
            queue=self.settings.queue,
            enqueued_ms=to_ms(now),
        )
        # refused before anything is written down, if it is too large
        encode_delivery(delivery, self.settings)
        record, new = await self.ledger.enqueue(delivery, due, enqueued_by or _this_user())
        if new or record.status in {Status.QUEUED, Status.WAITING}:
            # an earlier enqueueing of this run may have died between the two stores: its delivery is made again, with
            # the ledger's own enqueue time, or the run would later be taken for a new use of its id
            await self._deliver(replace(delivery, enqueued_ms=to_ms(record.enqueued_at)), due)
        return record

    async def _deliver(self, delivery: Delivery, due: datetime | None) -> None:
        if self.redis is None:
            raise ParametersError("This client was opened to look only; open it with redis=True to enqueue")
        due_ms = to_ms(due) if due else delivery.enqueued_ms
        try:
            await deliver(self.redis, delivery, encode_delivery(delivery, self.settings), due_ms)
        except RedisError as error:
            raise UnreachableError(
                f"Run {delivery.run_id!r} is in the ledger, but not in Redis: {type(error).__name__}: {error}. "
                "Enqueue it again under the same id once REDIS_URL answers; it will not be doubled"
            ) from error

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
        async with self.database.engine.connect() as connection:
            return await read_runs(connection, status=status, job=job, page=page, size=size)

    async def quarantine(self, run_id: str, *, after_id: int = 0, limit: int = 100) -> list[QuarantinedRow]:
        """Refused rows of a run, in the order in which they were met."""
        async with self.database.engine.connect() as connection:
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
        async with self.database.engine.connect() as connection:
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


def _checked(run_id: str | None) -> str:
    if run_id is None:
        return uuid4().hex
    if not run_id or len(run_id) > LONGEST_ID or not run_id.isprintable() or "~" in run_id:
        raise ParametersError(
            f"The run id {run_id!r} cannot be used: 1 to {LONGEST_ID} printable characters, none of them ~. "
            "For example --id import-2026-11-21"
        )
    return run_id
