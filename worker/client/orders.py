"""Orders: what a caller wants enqueued, checked and in its final form, and how many of them go at once.

Owns all that can be refused before anything is written down, and the size of a statement and of a round trip.
Refuses I/O.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from worker.core.errors import ParametersError, RequestError
from worker.core.options import RunOptions
from worker.core.settings import MIB, Settings
from worker.database.claims import Delivery
from worker.declare.registry import JobSpec
from worker.declare.tables import Tables
from worker.queue.deliver import encode_delivery
from worker.queue.plain_data import json_safe

LONGEST_ID: Final = 200
"""Characters of a run id: room is left for the `~1` of an id that is used again."""

MOST_RUNS: Final = 500
"""Runs of one statement and of one round trip: Redis and a client's loop are held for a few milliseconds."""

MOST_BYTES: Final = 4 * MIB
"""Bytes of the payloads of those, but for a single run whose payload is larger."""


@dataclass(frozen=True, slots=True)
class Order:
    """A run that may be enqueued.

    Attributes:
        delivery: the run.
        payload: what Redis gets, where the run is new.
    """

    delivery: Delivery
    payload: bytes


@dataclass(frozen=True, slots=True)
class OrderForm:
    """What all orders of one call share.

    Attributes:
        spec: the job.
        options: run options.
        tables: the tables known here; None leaves their check to the worker.
        settings: the queue, the codec and the bounds.
        enqueued_ms: now, in ms since 1970.
    """

    spec: JobSpec
    options: RunOptions
    tables: Tables | None
    settings: Settings
    enqueued_ms: int

    def fill(self, params: Mapping[str, object], run_id: str | None) -> Order:
        """One order.

        Args:
            params: the job's parameters by name.
            run_id: the run's id; None for a random one.

        Raises:
            RequestError: parameters or id do not fit, or the payload is too large.
        """
        spec = self.spec
        validated = spec.validate(params)
        if spec.check is not None and self.tables is not None:
            spec.check(validated, self.tables, self.settings, self.options)
        delivery = Delivery(
            run_id=uuid4().hex if run_id is None else _checked(run_id),
            job=spec.name,
            params=json_safe(spec.dump(validated)),
            options=self.options.model_dump(exclude_defaults=True),
            queue=self.settings.queue,
            enqueued_ms=self.enqueued_ms,
        )
        return Order(delivery, encode_delivery(delivery, self.settings))

    def fill_all(self, params: Sequence[Mapping[str, object]], run_ids: Sequence[str | None]) -> list[Order]:
        """An order for each of some parameters, in order.

        Raises:
            RequestError: one does not fit; a note tells which.
        """
        if len(params) != len(run_ids):
            raise ParametersError(
                f"{len(run_ids):,} run ids were given for {len(params):,} runs. Give each run its id, or none any, "
                'for example enqueue_many("cleanup", [{}, {}], run_ids=["monday", "tuesday"])'
            )
        orders: list[Order] = []
        for one, run_id in zip(params, run_ids, strict=True):
            try:
                orders.append(self.fill(one, run_id))
            except RequestError as error:
                if len(params) > 1:
                    error.add_note(f"This is of index {len(orders)}, of {len(params):,} runs; none of them is enqueued")
                raise
        return orders


def batches(orders: Sequence[Order]) -> Iterator[list[Order]]:
    """Orders in the order of their ids, as many at a time as one statement and one round trip take.

    Clients that enqueue the same ids at once wait for each other in one order, instead of dead-locking.
    """
    batch: list[Order] = []
    size = 0
    for order in sorted(orders, key=lambda order: order.delivery.run_id.encode()):
        if batch and (len(batch) == MOST_RUNS or size + len(order.payload) > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(order)
        size += len(order.payload)
    if batch:
        yield batch


def _checked(run_id: str) -> str:
    if not run_id or len(run_id) > LONGEST_ID or not run_id.isprintable() or "~" in run_id:
        raise ParametersError(
            f"The run id {run_id!r} cannot be used: 1 to {LONGEST_ID} printable characters, none of them ~. "
            "For example --id import-2026-11-21"
        )
    return run_id
