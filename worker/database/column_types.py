"""The ledger's column types: JSON that says NULL for None, identifiers compared byte by byte, and money.

Owns the types' meaning; each dialect's module may compile them its own way.
"""

from decimal import Decimal

from sqlalchemy import JSON, Numeric, String


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


def json_column() -> JSON:
    """JSON as text: the ledger never queries inside it, so storing it unparsed is the cheapest."""
    return JSON(none_as_null=True)
