"""Runs written down before any queue knows them: a look at what is known, and one statement for all that is new.

Owns these and how deliveries travel: as one JSON document. What the ledger knows already stays as it is.
"""

from collections.abc import Collection, Sequence
from typing import Final

import orjson
from sqlalchemy import bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.database.claims import Delivery, Terms
from worker.database.column_types import Instant
from worker.database.tables import RUNS

TEXT: Final = "LONGTEXT CHARACTER SET utf8mb4"
"""The type of texts that are sent. Unsaid, their character set would be the database's, which may lack characters."""

SENT: Final = f"""
    JSON_TABLE(:sent, '$[*]' COLUMNS (
        place FOR ORDINALITY, id {TEXT} PATH '$.id', job {TEXT} PATH '$.job', queue {TEXT} PATH '$.queue',
        params {TEXT} PATH '$.params', options {TEXT} PATH '$.options', enqueued_ms BIGINT PATH '$.enqueued_ms',
        open INTEGER PATH '$.open', reason {TEXT} PATH '$.reason'
    )) AS i
"""
"""Deliveries as rows, in the order in which they were sent. Without lengths: what is too long is to be refused where it
is stored, not cut here."""

ENQUEUED_AT: Final = "TIMESTAMP '1970-01-01 00:00:00' + INTERVAL i.enqueued_ms * 1000 MICROSECOND"
"""The moment that arq's enqueue time is."""

_ENQUEUE = text(
    # In one order everywhere: two clients that enqueue the same ids wait for each other instead of dead-locking. An id
    # that somebody else took meanwhile is left as it is, by an assignment that changes nothing. Refused and undone, it
    # would leave locks of gaps with those who wait, and these dead-lock. What LAST_INSERT_ID is given comes back with
    # the count of rows: it tells that there was one.
    f"""
    INSERT INTO heavylift_runs
        (id, job, queue, params, options, status, waiting_for, due_at, enqueued_ms, enqueued_at, enqueued_by)
    SELECT i.id, i.job, i.queue, i.params, i.options, :status, :waiting_for, :due_at, i.enqueued_ms, {ENQUEUED_AT},
           :enqueued_by
    FROM {SENT}
    ORDER BY i.place
    ON DUPLICATE KEY UPDATE attempts = heavylift_runs.attempts + 0 * LAST_INSERT_ID(1)
    """  # noqa: S608 - constant texts
).bindparams(bindparam("due_at", type_=Instant()))


async def enqueue(connection: AsyncConnection, deliveries: Sequence[Delivery], terms: Terms) -> set[str]:
    """Insert those of the runs whose ids are new; these ids.

    No statement says which rows it inserted and which were there, so what is known is looked up first. Where somebody
    else took one of the others meanwhile, all of them count as known: the ledger then tells what each is.
    """
    first = {delivery.run_id: delivery for delivery in reversed(deliveries)}
    new = in_order([first[run_id] for run_id in first.keys() - await _known(connection, first.keys())])
    if not new:
        return set()
    done = await connection.execute(
        _ENQUEUE,
        {
            "sent": sent(new, [{} for _ in new]),
            "status": terms.status.value,
            "waiting_for": terms.waiting_for,
            "due_at": terms.due_at,
            "enqueued_by": terms.enqueued_by,
        },
    )
    return set() if done.lastrowid else {delivery.run_id for delivery in new}


async def _known(connection: AsyncConnection, run_ids: Collection[str]) -> set[str]:
    return set((await connection.execute(select(RUNS.c.id).where(RUNS.c.id.in_(run_ids)))).scalars())


def in_order(deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Deliveries in the order of their ids, byte by byte: the order in which rows are locked everywhere."""
    return sorted(deliveries, key=lambda delivery: delivery.run_id.encode())


def sent(deliveries: Sequence[Delivery], more: Sequence[dict[str, object]]) -> str:
    """Deliveries as the parameter of `SENT`.

    Args:
        deliveries: in the order of their ids.
        more: what else is said of each, by name.
    """
    rows = [
        {
            "id": delivery.run_id,
            "job": delivery.job,
            "queue": delivery.queue,
            # documents travel as texts, which no JSON function of the server rewrites
            "params": orjson.dumps(delivery.params).decode(),
            "options": orjson.dumps(delivery.options).decode(),
            "enqueued_ms": delivery.enqueued_ms,
            **said,
        }
        for delivery, said in zip(deliveries, more, strict=True)
    ]
    return orjson.dumps(rows).decode()
