"""Exact decimals inside SQLite: functions that each connection is given."""

from sqlalchemy.engine.interfaces import DBAPIConnection


def register(connection: DBAPIConnection) -> None:
    """Give a connection the functions; SQLite's last as long as the connection.

    Args:
        connection: as the event `connect` of an engine hands it over.
    """
    raise NotImplementedError
