"""The statements of the books on SQLite."""

from collections.abc import Collection, Sequence
from decimal import Decimal

from sqlalchemy import ColumnElement, FromClause, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.transfer_terms import BookTerms
from worker.core.transfers import Entry, Refusal
from worker.database.book_statements import Head, Header, Origin, StoredTransfer


class SqliteBooks:
    """The statements for the accounts of one table."""

    def __init__(self, table: Table, terms: BookTerms) -> None:
        raise NotImplementedError

    async def add_headers(self, connection: AsyncConnection, origin: Origin, headers: Sequence[Header]) -> set[str]:
        """Write headers down; the keys that are new."""
        raise NotImplementedError

    async def read_headers(self, connection: AsyncConnection, keys: Collection[str]) -> dict[str, StoredTransfer]:
        """Transfers that are in the books, by key."""
        raise NotImplementedError

    async def lock_accounts(self, connection: AsyncConnection, accounts: Collection[str]) -> dict[str, Decimal | None]:
        """The balances of the accounts that exist."""
        raise NotImplementedError

    async def read_heads(self, connection: AsyncConnection, accounts: Collection[str]) -> dict[str, Head]:
        """The last entries of accounts."""
        raise NotImplementedError

    async def add_entries(self, connection: AsyncConnection, entries: Sequence[Entry]) -> None:
        """Write entries down."""
        raise NotImplementedError

    async def add_refusals(self, connection: AsyncConnection, refusals: Sequence[Refusal]) -> None:
        """Write refusals down."""
        raise NotImplementedError

    async def set_balances(
        self, connection: AsyncConnection, balances: dict[str, Decimal]
    ) -> dict[str, Decimal | None]:
        """Give accounts their new balances; what their rows then hold."""
        raise NotImplementedError


def request_hash(transfers: FromClause) -> ColumnElement[str]:
    """The fingerprint of each row of the transfers' table."""
    raise NotImplementedError


def account_text(key: ColumnElement[object]) -> ColumnElement[str]:
    """An account's key as the books write it, comparable with theirs."""
    raise NotImplementedError
