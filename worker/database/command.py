"""A statement that is the same each time it is sent, and what it is sent with this time.

Owns the pair. The statement is a constant of its module, so that it is compiled and prepared once; values that were
bound into it would make a new statement of each.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.sql.base import Executable


@dataclass(frozen=True, slots=True)
class Command:
    """What `RunSession.write` sends."""

    statement: Executable
    parameters: Mapping[str, object]
