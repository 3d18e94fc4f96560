"""The codes under which each database refuses a row, as runs and quarantines keep them."""

from collections.abc import Mapping
from typing import Final

from tests.support.chosen import Backend

CHECK: Final[Mapping[Backend, str]] = {"postgresql": "23514", "sqlite": "SQLITE_CONSTRAINT_CHECK", "mariadb": "4025"}
"""A CHECK constraint."""

UNIQUE: Final[Mapping[Backend, str]] = {"postgresql": "23505", "sqlite": "SQLITE_CONSTRAINT_UNIQUE", "mariadb": "1062"}
"""A unique constraint that is not the key of the upsert."""

FOREIGN_KEY: Final[Mapping[Backend, str]] = {
    "postgresql": "23503",
    "sqlite": "SQLITE_CONSTRAINT_FOREIGNKEY",
    "mariadb": "1452",
}
"""A reference to a row that is not there."""

TRIGGER: Final[Mapping[Backend, str]] = {
    "postgresql": "P0001",
    "sqlite": "SQLITE_CONSTRAINT_TRIGGER",
    "mariadb": "1644",
}
"""What a trigger of the table's owner raises."""
