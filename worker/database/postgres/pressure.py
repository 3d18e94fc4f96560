"""What PostgreSQL tells of the pressure it is under: one short query an indicator.

All but the archive's backlog and the lag of replicas can be read by every role. Refuses to judge what is much.
"""

from collections.abc import Awaitable, Callable, Sequence

from sqlalchemy import Row, TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.pressure import (
    Connections,
    Indicator,
    LockWaiters,
    Measure,
    ReplicaLag,
    Unread,
    Vacuums,
    WalBacklog,
)
from worker.database.classify import describe
from worker.database.postgres.errors import POSTGRES_ERRORS

STATEMENT_MS = 1000
"""How long one indicator may take, in milliseconds: a server that is slower at this is under pressure."""

_NOT_HERE = ("42", "0A")
"""Classes of SQLSTATE that no wait cures: the role may not, or this server has no such function or view."""

_LIMIT = text("SELECT set_config('statement_timeout', :limit, true)").bindparams(limit=f"{STATEMENT_MS}ms")

_LOCKS = text(
    # the worker's backends are those that bear its name, as the connection that asks does
    """
    WITH own AS MATERIALIZED (
        SELECT array_agg(pid) AS pids FROM pg_stat_activity
        WHERE application_name = current_setting('application_name')
    )
    SELECT count(DISTINCT w.pid) AS sessions FROM pg_locks AS w, own
    WHERE NOT w.granted AND w.pid <> ALL (own.pids) AND pg_blocking_pids(w.pid) && own.pids
    """
)

_CONNECTIONS = text(
    # of other roles' sessions an ordinary role does not see what kind they are: those with a database are clients
    """
    SELECT count(*) AS used,
           CAST(current_setting('max_connections') AS integer)
           - CAST(current_setting('superuser_reserved_connections') AS integer)
           - coalesce(CAST(current_setting('reserved_connections', true) AS integer), 0) AS usable
    FROM pg_stat_activity
    WHERE datid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'
          AND pid <> pg_backend_pid()
          AND NOT (application_name = current_setting('application_name') AND coalesce(state, '') = 'idle')
    """
)

_VACUUMS = text(
    # which table a vacuum of another role is at shows in its lock only; of a partition, the whole table is meant too
    """
    SELECT DISTINCT n.nspname AS schema, c.relname AS name, pg_table_is_visible(c.oid) AS visible
    FROM pg_stat_progress_vacuum AS v
    JOIN pg_locks AS l ON l.pid = v.pid AND l.locktype = 'relation' AND l.mode = 'ShareUpdateExclusiveLock'
         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    CROSS JOIN LATERAL (SELECT l.relation UNION SELECT relid FROM pg_partition_ancestors(l.relation)) AS t (oid)
    JOIN pg_class AS c ON c.oid = t.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    """
)

_ARCHIVING = text("SELECT current_setting('archive_mode') <> 'off' AS on")
_READY = text("SELECT count(*) AS segments FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'")

_REPLICAS = text(
    # an ordinary role sees that there are replicas, not how far they are behind
    """
    SELECT count(*) AS replicas, CAST(extract(epoch FROM max(r.replay_lag)) AS double precision) AS lag_s,
           pg_has_role('pg_read_all_stats', 'USAGE') AS visible
    FROM pg_stat_replication AS r
    WHERE NOT EXISTS (SELECT FROM pg_replication_slots AS s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')
    """
)


async def read_pressure(connection: AsyncConnection, indicators: Sequence[Indicator]) -> list[Measure | Unread]:
    """Read some indicators, each apart: one that cannot be read leaves the others.

    Args:
        connection: not in a transaction; this ends the ones that it needs.
        indicators: which.

    Raises:
        DBAPIError: the connection was lost.
    """
    found: list[Measure | Unread] = []
    while len(found) < len(indicators):
        async with connection.begin():
            await connection.execute(_LIMIT)
            for indicator in indicators[len(found) :]:
                try:
                    found.append(await _READERS[indicator](connection))
                except DBAPIError as error:
                    if error.connection_invalidated:
                        raise
                    found.append(_unread(indicator, error))
                    # the transaction is spent: those that are left get another
                    break
    return found


def _unread(indicator: Indicator, error: DBAPIError) -> Unread:
    found = describe(error, POSTGRES_ERRORS.code_of)
    return Unread(indicator, f"{found.type}: {found.message}", (found.sqlstate or "").startswith(_NOT_HERE))


async def _row(connection: AsyncConnection, query: TextClause) -> Row[tuple[object, ...]]:
    return (await connection.execute(query)).one()


async def _lock_waiters(connection: AsyncConnection) -> Measure:
    row = await _row(connection, _LOCKS)
    return LockWaiters(row.sessions)


async def _connections(connection: AsyncConnection) -> Measure:
    row = await _row(connection, _CONNECTIONS)
    return Connections(row.used, row.usable)


async def _vacuums(connection: AsyncConnection) -> Measure:
    names: set[str] = set()
    for row in await connection.execute(_VACUUMS):
        names.update({f"{row.schema}.{row.name}", row.name} if row.visible else {f"{row.schema}.{row.name}"})
    return Vacuums(frozenset(names))


async def _wal_backlog(connection: AsyncConnection) -> Measure:
    if not (await _row(connection, _ARCHIVING)).on:
        return WalBacklog(0)
    # apart, as the right to call the function is checked even where it is not called
    row = await _row(connection, _READY)
    return WalBacklog(row.segments)


async def _replica_lag(connection: AsyncConnection) -> Measure | Unread:
    row = await _row(connection, _REPLICAS)
    if row.replicas and not row.visible:
        return Unread(Indicator.REPLICAS, "only members of pg_read_all_stats or pg_monitor see the lag", for_good=True)
    # a replica that has replayed all there is, and one that has yet to report, have none
    return ReplicaLag(row.lag_s or 0.0)


_READERS: dict[Indicator, Callable[[AsyncConnection], Awaitable[Measure | Unread]]] = {
    Indicator.LOCKS: _lock_waiters,
    Indicator.CONNECTIONS: _connections,
    Indicator.VACUUM: _vacuums,
    Indicator.WAL_ARCHIVE: _wal_backlog,
    Indicator.REPLICAS: _replica_lag,
}
