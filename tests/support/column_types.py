"""Column types for tables of the tests' own, spelled so that each database keeps what PostgreSQL's would."""

from typing import Any, Final

from sqlalchemy import JSON, DateTime
from sqlalchemy.dialects.mysql import DATETIME
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

MOMENT: Final[TypeEngine[Any]] = DateTime(timezone=True).with_variant(DATETIME(fsp=6), "mysql", "mariadb")
"""To the microsecond; with a time zone where there are such, in UTC elsewhere."""

WALL: Final[TypeEngine[Any]] = DateTime().with_variant(DATETIME(fsp=6), "mysql", "mariadb")
"""A date and time to the microsecond, in no time zone."""

DOCUMENT: Final[TypeEngine[Any]] = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
"""JSON that can be compared."""
