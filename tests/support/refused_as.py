"""What the quarantine says of a row that a constraint refused: the code and the constraint, as each database tells."""

from collections.abc import Mapping
from typing import Final, Literal

from tests.support.chosen import Backend

Kind = Literal["primary key", "unique", "foreign key", "referred to", "check"]

_CODES: Final[Mapping[Backend, Mapping[Kind, str]]] = {
    "postgresql": {
        "primary key": "23505",
        "unique": "23505",
        "foreign key": "23503",
        "referred to": "23503",
        "check": "23514",
    },
    "sqlite": {"primary key": "1555", "unique": "2067", "foreign key": "787", "referred to": "787", "check": "275"},
    "mariadb": {"primary key": "1062", "unique": "1062", "foreign key": "1452", "referred to": "1451", "check": "4025"},
}


def refused_by(backend: Backend, kind: Kind, name: str) -> tuple[str, str | None]:
    """Code and constraint.

    Args:
        backend: the database.
        kind: of the constraint; `referred to` where a row may not go because another one refers to it.
        name: of the constraint, where the database tells it.
    """
    return _CODES[backend][kind], name if backend == "postgresql" else None
