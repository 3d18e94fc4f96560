"""The codes under which each database refuses a row, as runs and quarantines keep them.

SQLSTATE on PostgreSQL, SQLite's extended result codes, and MariaDB's error numbers.
"""

from collections.abc import Mapping
from typing import Final

from tests.support.chosen import Backend

CHECK: Final[Mapping[Backend, str]] = {"postgresql": "23514", "sqlite": "275", "mariadb": "4025"}
"""A CHECK constraint."""

UNIQUE: Final[Mapping[Backend, str]] = {"postgresql": "23505", "sqlite": "2067", "mariadb": "1062"}
"""A unique constraint that is not the key of the upsert."""

FOREIGN_KEY: Final[Mapping[Backend, str]] = {
    "postgresql": "23503",
    "sqlite": "787",
    "mariadb": "1452",
}
"""A reference to a row that is not there."""

TRIGGER: Final[Mapping[Backend, str]] = {
    "postgresql": "P0001",
    "sqlite": "1811",
    "mariadb": "1644",
}
"""What a trigger of the table's owner raises."""
