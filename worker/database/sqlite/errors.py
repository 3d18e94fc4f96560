"""SQLite's result codes as kinds of failure: a table with a reason for each line.

Owns which code calls for what. Codes are the driver's `sqlite_errorcode`: extended ones, whose lowest byte is the
primary code that they belong to. Refuses to look at texts, and to weigh codes against other evidence (that is
`worker.database.classify`).
"""

import sqlite3
from typing import Final

from worker.core.errors import ErrorKind
from worker.database.classify import ErrorTable

RAW_ERRORS: Final[tuple[type[BaseException], ...]] = (sqlite3.Error,)
"""What the driver raises where SQLAlchemy does not stand in between, as while a stream is fetched."""

_BY_CODE: Final[dict[int, ErrorKind]] = {
    1032: ErrorKind.CONNECTION,  # READONLY_DBMOVED: the file was replaced under us, by a restored backup for example
    3082: ErrorKind.OVERLOAD,  # IOERR_NOMEM: out of memory while reading
}

_BY_PRIMARY_CODE: Final[dict[int, ErrorKind]] = {
    1: ErrorKind.PERMANENT,  # ERROR: syntax, an unknown table, too many variables
    2: ErrorKind.PERMANENT,  # INTERNAL
    3: ErrorKind.PERMANENT,  # PERM
    4: ErrorKind.CONTENTION,  # ABORT: the statement was stopped because its transaction was rolled back
    # Another connection writes. 517 too, BUSY_SNAPSHOT: what the transaction read is no longer the newest, and no wait
    # cures that; it is begun anew.
    5: ErrorKind.CONTENTION,  # BUSY
    6: ErrorKind.CONTENTION,  # LOCKED: another statement of this connection is in the way
    7: ErrorKind.OVERLOAD,  # NOMEM
    # the file or its directory may not be written to; a worker that goes on trying goes on when a person has allowed it
    8: ErrorKind.EXHAUSTED,  # READONLY
    9: ErrorKind.OVERLOAD,  # INTERRUPT: stopped by our statement timeout
    10: ErrorKind.EXHAUSTED,  # IOERR
    11: ErrorKind.PERMANENT,  # CORRUPT: repeating would hide it
    13: ErrorKind.EXHAUSTED,  # FULL: disk, or PRAGMA max_page_count
    14: ErrorKind.CONNECTION,  # CANTOPEN: a directory that is not there (yet), or too many open files
    15: ErrorKind.CONTENTION,  # PROTOCOL: many opened the file at the same moment
    17: ErrorKind.CONTENTION,  # SCHEMA: it changed under the statement, time and again
    18: ErrorKind.OVERLOAD,  # TOOBIG: a text or a list of rows beyond SQLITE_MAX_LENGTH
    19: ErrorKind.REFUSED_ROW,  # CONSTRAINT: unique, not null, check, foreign key; a trigger's RAISE
    20: ErrorKind.REFUSED_ROW,  # MISMATCH: no integer for an INTEGER PRIMARY KEY
    21: ErrorKind.PERMANENT,  # MISUSE
    22: ErrorKind.EXHAUSTED,  # NOLFS: the file system takes no larger files
    23: ErrorKind.PERMANENT,  # AUTH
    25: ErrorKind.PERMANENT,  # RANGE: no such parameter
    26: ErrorKind.PERMANENT,  # NOTADB
}


def code_of(error: BaseException) -> str | None:
    """The extended result code that an error carries, as text such as `517`; None where it carries none."""
    code = getattr(error, "sqlite_errorcode", None)
    return str(code) if isinstance(code, int) else None


def kind_of_code(code: str) -> ErrorKind | None:
    """The kind that a result code stands for.

    Args:
        code: a number as text, extended or primary.

    Returns:
        The kind of the code, or else of its primary code; None where neither is known.
    """
    number = int(code)
    return _BY_CODE.get(number) or _BY_PRIMARY_CODE.get(number & 0xFF)


def kind_of_class(error: BaseException) -> ErrorKind | None:
    """The kind of the driver's own errors, which have no code: it raises them before SQLite is asked."""
    if code_of(error) is not None:
        return None
    # a value that SQLite has no type for, or that is beyond its integers
    return ErrorKind.REFUSED_ROW if isinstance(error, sqlite3.DataError) else None


SQLITE_ERRORS: Final = ErrorTable(kind_of_code, kind_of_class, RAW_ERRORS, code_of)
"""What `worker.database.classify` needs to know of SQLite."""
