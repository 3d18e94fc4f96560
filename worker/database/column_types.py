"""The ledger's column types: JSON that says NULL for None, identifiers compared byte by byte, moments, and money.

Owns the types' meaning; each dialect's module may compile them its own way.
"""

from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Numeric, String, Text
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator


class Identifier(String):
    """A run's id, or a token: compared byte by byte on every database, at most 255 characters."""

    inherit_cache = True

    def __init__(self) -> None:
        super().__init__(255)


class Money(Numeric[Decimal]):
    """An amount of money, with as many digits as it has: no scale rounds it, and it comes back as a `Decimal`."""

    inherit_cache = True

    def __init__(self) -> None:
        super().__init__(asdecimal=True)


class Document(JSON):
    """JSON as text: the ledger never queries inside it, so storing it unparsed is the cheapest. None is NULL."""

    inherit_cache = True

    def __init__(self) -> None:
        super().__init__(none_as_null=True)


class Prose(Text):
    """A text for people, however long."""

    inherit_cache = True


class Serial(BigInteger):
    """The number of a row that the database counts up."""

    inherit_cache = True


class Instant(TypeDecorator[datetime]):
    """A moment, aware and in UTC, to the microsecond where the database can; it comes back aware from any."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """In UTC: a database without time zones drops what it is told of them."""
        del dialect
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """In UTC, whatever zone the session of the database is in."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class utc_now(FunctionElement[datetime]):  # noqa: N801 - a function of SQL, as SQLAlchemy spells them
    """The database's own clock, as an `Instant`."""

    type = Instant()
    inherit_cache = True
