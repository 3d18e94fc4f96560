"""PostgreSQL's error codes, and asyncpg's exceptions, as kinds of failure: a table with a reason for each line.

Owns which SQLSTATE calls for what. Refuses to walk through causes or to weigh codes against other evidence
(that is `worker.database.classify`).
"""

from typing import Final

import asyncpg

from worker.core.errors import ErrorKind
from worker.database.classify import ErrorTable

RAW_ERRORS: Final[tuple[type[BaseException], ...]] = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What asyncpg raises where it is used without SQLAlchemy in between, as for COPY. Beside these it lets `OSError`
through, and COPY raises a bare OverflowError, TypeError or ValueError for a value that it cannot encode."""

_BY_CODE: Final[dict[str, ErrorKind]] = {
    "0A000": ErrorKind.PERMANENT,  # a feature the server lacks; the stale plan that shares this code is told by class
    "40003": ErrorKind.CONNECTION,  # "completion unknown": to be settled like a lost connection, never simply repeated
    "26000": ErrorKind.CONTENTION,  # a pooler or DEALLOCATE took the prepared statement; it is prepared anew
    "42P05": ErrorKind.CONTENTION,  # the same from the other side: this pooled server session has one of that name
    "55P03": ErrorKind.CONTENTION,  # lock_timeout or NOWAIT: whoever holds the lock will let go
    "72000": ErrorKind.CONTENTION,  # snapshot too old: a new transaction has a new one
    "25006": ErrorKind.CONNECTION,  # read-only: after a failover the pool still leads to the former primary
    "25P03": ErrorKind.CONNECTION,  # idle in transaction for too long: the server closed the connection
    "25P04": ErrorKind.CONNECTION,  # transaction_timeout: likewise
    "53000": ErrorKind.EXHAUSTED,  # out of some resource that it does not name
    "53100": ErrorKind.EXHAUSTED,  # disk full
    "53200": ErrorKind.OVERLOAD,  # out of memory, or of lock slots: fewer rows need less of both
    "53300": ErrorKind.CONNECTION,  # too many connections: others will be closed
    "53400": ErrorKind.EXHAUSTED,  # a configured limit such as temp_file_limit: a person must raise it
    "54011": ErrorKind.PERMANENT,  # too many columns, whatever the number of rows
    "54023": ErrorKind.PERMANENT,  # too many arguments of a function, likewise
    "57014": ErrorKind.OVERLOAD,  # statement_timeout; pg_cancel_backend has the same code, and less work suits it too
    "57P01": ErrorKind.CONNECTION,  # the server shuts down, or somebody terminated this backend
    "57P02": ErrorKind.CONNECTION,  # another backend crashed, and the server restarts all
    "57P03": ErrorKind.CONNECTION,  # starting up, shutting down or in recovery
    "57P04": ErrorKind.CONNECTION,  # the database was dropped: reconnecting tells whether it is there again
    "57P05": ErrorKind.CONNECTION,  # idle for too long: the server closed the connection
    # What an author's own trigger or function raises to refuse a row. If it is about something else, one row after
    # another is refused with this reason, which a person sees; taken for permanent, one bad row would end the run.
    "P0001": ErrorKind.REFUSED_ROW,
    "2201W": ErrorKind.PERMANENT,  # LIMIT is a part of the statement, not of a row
    "2201X": ErrorKind.PERMANENT,  # OFFSET likewise
    "2202G": ErrorKind.PERMANENT,  # TABLESAMPLE REPEATABLE likewise
    "2202H": ErrorKind.PERMANENT,  # TABLESAMPLE likewise
}

_BY_CLASS: Final[dict[str, ErrorKind]] = {
    "08": ErrorKind.CONNECTION,  # connection exceptions; asyncpg makes 08003 itself when the server hangs up
    "21": ErrorKind.PERMANENT,  # cardinality: the statement would touch a row twice, or a subquery gave too many
    "22": ErrorKind.REFUSED_ROW,  # a value out of range, too long, malformed; 22000 is asyncpg's own, before sending
    "23": ErrorKind.REFUSED_ROW,  # a constraint
    "25": ErrorKind.PERMANENT,  # transaction state, 25P02 among them: the job went on after an error
    "28": ErrorKind.PERMANENT,  # who may log in
    "3D": ErrorKind.PERMANENT,  # no such database
    "3F": ErrorKind.PERMANENT,  # no such schema
    "40": ErrorKind.CONTENTION,  # rolled back by the server: deadlock, serialization
    "42": ErrorKind.PERMANENT,  # syntax, missing or forbidden objects
    "44": ErrorKind.REFUSED_ROW,  # a view's WITH CHECK OPTION
    "54": ErrorKind.OVERLOAD,  # a statement too complex, a stack too deep, a row too big
    "58": ErrorKind.EXHAUSTED,  # the server's system: I/O errors, missing files
    "XX": ErrorKind.PERMANENT,  # internal errors and corruption: repeating would hide them
}


def kind_of_sqlstate(sqlstate: str) -> ErrorKind | None:
    """The kind that a SQLSTATE stands for.

    Args:
        sqlstate: five characters, such as `40P01`.

    Returns:
        The kind of the code, or else of its class (the first two characters); None where neither is known.
    """
    return _BY_CODE.get(sqlstate) or _BY_CLASS.get(sqlstate[:2])


def kind_of_class(error: BaseException) -> ErrorKind | None:
    """The kind of those asyncpg exceptions whose code is missing or says too little.

    Args:
        error: one exception, as asyncpg raised it.

    Returns:
        The kind, None for every other class.
    """
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        # A plan made before a change of the schema. SQLAlchemy drops its cached plans on it.
        return ErrorKind.CONTENTION
    if isinstance(error, asyncpg.OutdatedSchemaCacheError):
        # A composite type changed. asyncpg closes the statement that SQLAlchemy goes on using: the connection is spent.
        return ErrorKind.CONNECTION
    if isinstance(error, asyncpg.InternalClientError):
        # The driver has lost count of what the server says, as when a session is terminated in the very moment in which
        # it is lent. That connection is spent; what became of its transaction the next claim tells.
        return ErrorKind.CONNECTION
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        # None of the listed hosts is the primary: a failover is under way.
        return ErrorKind.CONNECTION
    return None


POSTGRES_ERRORS: Final = ErrorTable(kind_of_sqlstate, kind_of_class, RAW_ERRORS)
"""What `worker.database.classify` needs to know of PostgreSQL."""
