"""What the quarantine says of a row that a constraint refused: the code and the constraint, as each database tells."""

from collections.abc import Mapping
from typing import Final, Literal

from tests.support.chosen import Backend

Kind = Literal["primary key", "unique", "foreign key", "check", "not null"]

_CODES: Final[Mapping[Kind, str]] = {
    "primary key": "23505",
    "unique": "23505",
    "foreign key": "23503",
    "check": "23514",
    "not null": "23502",
}
"""PostgreSQL's."""


def refused_by(backend: Backend, kind: Kind, name: str) -> tuple[str | None, str | None]:
    """SQLSTATE and constraint.

    Args:
        backend: the database.
        kind: of the constraint.
        name: of the constraint, where the database tells it.
    """
    if backend == "postgresql":
        return _CODES[kind], name
    # MariaDB has one code for all, and its driver passes no name on; SQLite has codes of its own, and no names
    return ("23000" if backend == "mariadb" else None), None
