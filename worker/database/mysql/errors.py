"""Error numbers of MariaDB and MySQL, and aiomysql's exceptions, as kinds of failure: a table with a reason for each.

Owns which number calls for what. Numbers and not SQLSTATEs: most errors of these servers share HY000. Which constraint
refused a row they tell in the text alone, which is not read. Refuses to walk through causes or to weigh numbers
against other evidence (that is `worker.database.classify`).
"""

from typing import Final

import aiomysql

from worker.core.errors import ErrorKind
from worker.database.classify import ErrorTable

DUPLICATE: Final = 1062

_KINDS: Final[dict[ErrorKind, dict[int, str]]] = {
    ErrorKind.CONTENTION: {
        1213: "deadlock: the transaction was rolled back, the other one goes on",
        1614: "the same of an XA transaction",
        1205: "lock wait timeout: whoever holds the lock will let go",
        3572: "NOWAIT met a locked row",
        1020: "the row was changed after the snapshot was taken (MariaDB, innodb_snapshot_isolation)",
        1412: "the table was altered after the snapshot was taken",
        1615: "a prepared statement has to be prepared anew",
    },
    ErrorKind.CONNECTION: {
        2002: "the socket is not there",
        2003: "nobody listens, or the handshake came to nothing",
        2006: "the server has gone away",
        2013: "the connection was lost in mid-statement: what became of it is to be found out",
        2014: "the driver has lost count of what the server says",
        2055: "the connection was lost, and the system says why",
        1040: "too many connections: others will be closed",
        1203: "too many of this user, likewise",
        1226: "the user's quota is spent: for connections an hour, for one",
        1047: "a node of a Galera cluster that is not ready",
        1053: "the server shuts down",
        1077: "the server shuts down in good order",
        1079: "the server has shut down",
        1080: "the server makes its clients leave",
        1152: "the server gave the connection up",
        1184: "the server gave the connection up, likewise",
        1158: "the server could not read from the connection",
        1159: "the server waited too long for the connection",
        1160: "the server could not write to the connection",
        1161: "the server could not write to the connection in time",
        1927: "the connection was killed, or its transaction was idle for too long",
        3169: "the session was killed",
        4031: "idle for too long: the server closed the connection",
        1290: "read-only: after a failover the pool still leads to the former primary",
        1836: "read-only, likewise",
        3100: "a group replication that is not online rolled the transaction back at COMMIT",
    },
    ErrorKind.OVERLOAD: {
        1153: "the statement is larger than max_allowed_packet: fewer rows make a smaller one",
        1301: "a result is larger than max_allowed_packet",
        2020: "a packet is larger than max_allowed_packet",
        1206: "the lock table is full: the transaction was rolled back, and fewer rows need fewer locks",
        1317: "somebody killed the statement, for which less work suits it, too",
        1969: "max_statement_time",
        3024: "max_execution_time",
        1028: "a sort was aborted, by a kill or for want of room",
        1037: "out of memory",
        1038: "out of memory for a sort",
        1041: "out of memory, perhaps of the whole system",
        1135: "the system gives the server no more threads",
        1197: "the transaction is larger than max_binlog_cache_size",
        1119: "a stack too deep",
        1436: "a stack too deep, likewise",
    },
    ErrorKind.EXHAUSTED: {
        1021: "disk full",
        1114: "the table is full, and with it most often the disk",
        1026: "the server could not write a file",
        1003: "the server could not close a file",
        1030: "the storage engine has some trouble of its own",
        23: "the system has no more files for the server",
        24: "the system has no more files for the server",
        28: "disk full, as the system says it",
        1016: "a table's file cannot be opened",
        1023: "a table's file cannot be closed",
    },
    ErrorKind.REFUSED_ROW: {
        DUPLICATE: "a unique key",
        1586: "a unique key, likewise",
        1859: "a unique key, likewise",
        1169: "a unique key, as some engines say it",
        1048: "NULL in a column that takes none",
        1364: "a column without a default was not given",
        1451: "other rows refer to the row",
        1452: "the row refers to none that is there",
        1216: "the row refers to none that is there, said without names",
        1217: "other rows refer to the row, said without names",
        1761: "a foreign key's cascade met a unique key",
        4025: "CHECK (MariaDB)",
        3819: "CHECK (MySQL)",
        1369: "a view's WITH CHECK OPTION",
        1264: "a number out of range",
        1690: "a number out of range, computed",
        1365: "a division by zero",
        1366: "a value that the column's type or character set cannot be",
        1292: "a date, a time or a number that is none",
        1265: "a value that would be cut short: of an ENUM, for one",
        1406: "a text too long",
        1411: "a value that a function cannot read",
        1441: "a moment out of range",
        1300: "a text that is not valid in its character set",
        3988: "a text that the column's character set cannot write",
        1367: "a value that is no number",
        1526: "no partition for the row",
        1748: "a row outside of the partition that was named",
        3140: "no JSON",
        3141: "no JSON, in a function's argument",
        3144: "JSON in a character set that it cannot be in",
        3157: "JSON too deep",
        4038: "no JSON (MariaDB)",
        4037: "JSON that ends early (MariaDB)",
        1416: "no geometry",
        3037: "no geometry, likewise",
        4079: "a value of a type that the column does not take (MariaDB)",
        # What an author's own trigger raises to refuse a row. If it is about something else, one row after another is
        # refused with this reason, which a person sees; taken for permanent, one bad row would end the run.
        1644: "SIGNAL",
        1118: "a row larger than the engine's page takes",
    },
}

_BY_NUMBER: Final = {str(number): kind for kind, numbers in _KINDS.items() for number in numbers}


def number_of(error: BaseException | None) -> int | None:
    """The error number that an exception of the driver carries; None where it carries none."""
    if isinstance(error, aiomysql.MySQLError) and error.args and isinstance(error.args[0], int):
        return error.args[0]
    return None


def code_of(error: BaseException) -> str | None:
    """The error number, as text."""
    number = number_of(error)
    return None if number is None else str(number)


def kind_of_class(error: BaseException) -> ErrorKind | None:
    """The kind of those of aiomysql's exceptions that carry no number.

    Args:
        error: one exception, as aiomysql raised it.
    """
    if number_of(error) is None and isinstance(error, aiomysql.InterfaceError | aiomysql.InternalError):
        # closed already, or the driver has lost count of what the server says: the connection is spent
        return ErrorKind.CONNECTION
    return None


MYSQL_ERRORS: Final = ErrorTable(_BY_NUMBER.get, kind_of_class, (aiomysql.MySQLError,), code_of)
"""What `worker.database.classify` needs to know of MariaDB and MySQL. Any other number is permanent."""
