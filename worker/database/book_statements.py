"""What keeping books asks of a database: the statements of a chunk of transfers, each one for all of them.

Owns the seam. The order of the statements is `worker.database.books`'s.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from sqlalchemy import Column, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.errors import RequestError
from worker.core.transfer_terms import BookTerms
from worker.core.transfers import Entry, Refusal, Transfer


@dataclass(frozen=True, slots=True)
class Header:
    """A transfer about to be written down.

    Attributes:
        transfer: what was asked for.
        request_hash: its fingerprint.
    """

    transfer: Transfer
    request_hash: str


@dataclass(frozen=True, slots=True)
class Origin:
    """What all transfers of a run have in common.

    Attributes:
        actor: who asked for the run.
        run_id: the run.
    """

    actor: str
    run_id: str


@dataclass(frozen=True, slots=True)
class StoredTransfer:
    """A transfer that the books know.

    Attributes:
        transfer: what was asked for.
        request_hash: the fingerprint of that.
        book: the accounts' table and the money column, as `account.balance`.
        run_id: the run that wrote it down.
        refusal: why it was refused; empty where it was carried out.
    """

    transfer: Transfer
    request_hash: str
    book: str
    run_id: str
    refusal: str


@dataclass(frozen=True, slots=True)
class Head:
    """An account's last entry: its version, and the balance after it."""

    version: int
    after: Decimal


def account_columns(table: Table, terms: BookTerms) -> tuple[Column[object], Column[object]]:
    """The key and the money column of a registered table, which its model may call otherwise.

    Raises:
        RequestError: the model lacks the column that is the table's primary key in the database.
    """
    by_name: dict[str, Column[object]] = {column.name: column for column in table.columns}
    try:
        return by_name[terms.key], by_name[terms.column]
    except KeyError as lacking:
        raise RequestError(
            f"The model of table {terms.table!r} has no column {lacking.args[0]!r}, which the database's table has as "
            "its primary key. Let the model have the same primary key"
        ) from None


class BookStatements(Protocol):
    """The statements for one table's accounts. Each is one round trip however many rows it is given."""

    async def add_headers(self, connection: AsyncConnection, origin: Origin, headers: Sequence[Header]) -> set[str]:
        """Write headers down in the order of their keys; the keys that are new.

        Waits for a transaction that has one of these keys and is not over yet.
        """
        ...

    async def read_headers(self, connection: AsyncConnection, keys: Collection[str]) -> dict[str, StoredTransfer]:
        """Transfers that are in the books, by key."""
        ...

    async def lock_accounts(self, connection: AsyncConnection, accounts: Collection[str]) -> dict[str, Decimal | None]:
        """Lock accounts in the order of their keys until the transaction ends; the balances of those that exist."""
        ...

    async def read_heads(self, connection: AsyncConnection, accounts: Collection[str]) -> dict[str, Head]:
        """The last entries of locked accounts, of those that have any. In a statement of its own.

        One that waited for a lock sees the locked row as it is now, and every other table as it was when it began.
        """
        ...

    async def add_entries(self, connection: AsyncConnection, entries: Sequence[Entry]) -> None:
        """Write entries down."""
        ...

    async def add_refusals(self, connection: AsyncConnection, refusals: Sequence[Refusal]) -> None:
        """Write refusals down."""
        ...

    async def set_balances(
        self, connection: AsyncConnection, balances: dict[str, Decimal]
    ) -> dict[str, Decimal | None]:
        """Give locked accounts their new balances; what their rows then hold."""
        ...
