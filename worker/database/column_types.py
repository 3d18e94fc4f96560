"""The ledger's column types: JSON that says NULL for None, identifiers compared byte by byte, moments, and money.

Owns the types' meaning; each dialect's module may compile them its own way.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Numeric, String, Text
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from worker.core.transfers import plain


class Identifier(String):
    """A run's id, or a token: compared byte by byte on every database, at most 255 characters."""

    inherit_cache = True

    def __init__(self) -> None:
        super().__init__(255)


class Money(Numeric[Decimal]):
    """An amount of money, with as many digits as it has: no scale rounds it, and it comes back as a `Decimal`.

    Where a database has no exact numbers it is text, written in one way only, so that equal amounts are equal texts.
    """

    inherit_cache = True

    def __init__(self) -> None:
        super().__init__(asdecimal=True)

    def bind_processor(self, dialect: Dialect) -> Callable[[Decimal | int | None], object] | None:
        """As the driver takes it: as it is, or as text."""
        return None if dialect.supports_native_decimal else _as_text

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Decimal | None] | None:
        """From what the driver gives."""
        if not dialect.supports_native_decimal:
            return _from_text
        own: Callable[[Any], Decimal | None] | None = super().result_processor(dialect, coltype)  # type: ignore[no-untyped-call]  # it is, in SQLAlchemy
        return own


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


def _as_text(value: Decimal | int | None) -> str | None:
    if value is None:
        return None
    # zero has no sign
    return plain(Decimal(value)) if value else "0"


def _from_text(value: str | int | None) -> Decimal | None:
    return None if value is None else Decimal(value)


class utc_now(FunctionElement[datetime]):  # noqa: N801 - a function of SQL, as SQLAlchemy spells them
    """The database's own clock, as an `Instant`."""

    type = Instant()
    inherit_cache = True
