"""The statements of the books on SQLite: a few for any number of rows, under the write lock of the transaction.

Amounts go into the books as text with all of their digits, and into an account's row as the integer or the float that
is the same number to 15 digits, which is what its declared type keeps. Owns the statements; `decimals` has the
functions that they call. The accounts' identifiers come from their registered table.
"""

import json
import re
from collections.abc import Collection, Iterable
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    String,
    Table,
    Text,
    Uuid,
    and_,
    bindparam,
    cast,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.transfer_terms import BookTerms, KeyKind
from worker.core.transfers import Entry, Refusal, Transfer
from worker.database.book_statements import Head, Header, Origin, StoredTransfer, account_columns
from worker.database.column_types import Money
from worker.database.sqlite.declared_types import undecorated
from worker.database.sqlite.exact_types import Affinity, Stored
from worker.database.sqlite.sent_values import kept
from worker.database.transfer_tables import ENTRIES, REFUSALS, TRANSFERS

_WHOSE: Final = "heavylift_account"
_HOLDS: Final = "heavylift_balance"
_NUMERIC: Final = re.compile(r"numeric\((\d+),(\d+)\)")


class SqliteBooks:
    """The statements for the accounts of one table.

    Args:
        table: the registered table.
        terms: its key and its money column.
    """

    def __init__(self, table: Table, terms: BookTerms) -> None:
        self._table, self._terms = table, terms
        self._key, self._money = account_columns(table, terms)
        self._book = {"accounts_table": terms.table, "money_column": terms.column}
        named = (account_text(self._key).label("account"), cast(self._money, Money()).label("balance"))
        self._read: Select[str, Decimal] = select(*named).where(self._key.in_(_listed("accounts")))

    async def add_headers(self, connection: AsyncConnection, origin: Origin, headers: Collection[Header]) -> set[str]:
        """INSERT ... ON CONFLICT DO NOTHING. Nobody else's transaction is unfinished: this one has the write lock."""
        adding = upsert(TRANSFERS).on_conflict_do_nothing(index_elements=[TRANSFERS.c.idempotency_key])
        given = [
            {
                **self._book,
                "idempotency_key": header.transfer.key,
                "request_hash": header.request_hash,
                "from_account": header.transfer.from_account,
                "to_account": header.transfer.to_account,
                "amount": header.transfer.amount,
                "reason": header.transfer.reason,
                "actor": origin.actor,
                "run_id": origin.run_id,
            }
            for header in headers
        ]
        return set((await connection.execute(adding.returning(TRANSFERS.c.idempotency_key), given)).scalars())

    async def read_headers(self, connection: AsyncConnection, keys: Collection[str]) -> dict[str, StoredTransfer]:
        """By the primary key's index."""
        found = await connection.execute(_READ_HEADERS, {"keys": json.dumps(list(keys))})
        return {
            row.idempotency_key: StoredTransfer(
                Transfer(
                    row.idempotency_key, row.from_account, row.to_account, self._terms.exact(row.amount), row.reason
                ),
                row.request_hash,
                f"{row.accounts_table}.{row.money_column}",
                row.run_id,
                row.message or "",
            )
            for row in found
        }

    async def lock_accounts(self, connection: AsyncConnection, accounts: Collection[str]) -> dict[str, Decimal | None]:
        """Nothing but reading: the transaction holds the lock of the whole file."""
        found = await connection.execute(
            self._read, {"accounts": json.dumps([self._stored(name) for name in accounts])}
        )
        return {row.account: None if row.balance is None else self._terms.exact(row.balance) for row in found}

    async def read_heads(self, connection: AsyncConnection, accounts: Collection[str]) -> dict[str, Head]:
        """One step down the primary key's index for each account."""
        asked = {**self._book, "accounts": json.dumps(list(accounts))}
        found = await connection.execute(_READ_HEADS, asked)
        return {row.account: Head(row.version, self._terms.exact(row.balance_after)) for row in found}

    async def add_entries(self, connection: AsyncConnection, entries: Collection[Entry]) -> None:
        """Both entries of each transfer together."""
        given = [
            {
                **self._book,
                "account": entry.account,
                "version": entry.version,
                "idempotency_key": entry.key,
                "kind": entry.kind.value,
                "amount": entry.amount,
                "balance_before": entry.before,
                "balance_after": entry.after,
            }
            for entry in entries
        ]
        await connection.execute(insert(ENTRIES), given)

    async def add_refusals(self, connection: AsyncConnection, refusals: Collection[Refusal]) -> None:
        """Nothing but rows."""
        given = [
            {"idempotency_key": refusal.key, "code": refusal.code.value, "message": refusal.message}
            for refusal in refusals
        ]
        await connection.execute(insert(REFUSALS), given)

    async def set_balances(
        self, connection: AsyncConnection, balances: dict[str, Decimal]
    ) -> dict[str, Decimal | None]:
        """UPDATE by key, which also sets the columns that the model sets `onupdate`; then what the rows hold is read.

        Raises:
            sqlalchemy.exc.IntegrityError: a balance has more digits than its column declares.
        """
        await _check_digits(connection, self._terms, balances.values())
        as_it_is = Stored(Affinity.NUMERIC)
        changing = update(self._table).prefix_with("OR ABORT").where(self._key == bindparam(_WHOSE, type_=as_it_is))
        given = [
            {_WHOSE: self._stored(name), _HOLDS: kept(balance, Affinity.NUMERIC)} for name, balance in balances.items()
        ]
        await connection.execute(changing.values({self._money: bindparam(_HOLDS, type_=as_it_is)}), given)
        return await self.lock_accounts(connection, balances)

    def _stored(self, account: str) -> object:
        """An account's key as its row has it."""
        match self._terms.key_kind:
            case KeyKind.INTEGER:
                return int(account)
            case KeyKind.UUID:
                return UUID(account).hex
            case KeyKind.TEXT:
                return account


def request_hash(transfers: FromClause) -> ColumnElement[str]:
    """The fingerprint of each row of the transfers' table, as `worker.core.transfers.request_hash` takes it."""
    names = ("accounts_table", "money_column", "from_account", "to_account", "amount", "reason")
    return func.heavylift_request_hash(*(transfers.c[name] for name in names), type_=String())


def account_text(key: ColumnElement[Any]) -> ColumnElement[str]:
    """The text of a key; of a UUID, which is stored as 32 digits, the form with hyphens."""
    text = cast(key, Text)
    if not isinstance(undecorated(key.type), Uuid):
        return text
    parts: list[ColumnElement[str]] = [func.substr(text, first, length) for first, length in _UUID_PARTS]
    joined = parts[0]
    for part in parts[1:]:
        joined = joined.concat("-").concat(part)
    return joined


_UUID_PARTS: Final = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))


def _listed(name: str) -> Any:  # noqa: ANN401 - the items are of the type of what they are compared with
    """The items of a list that is sent as JSON."""
    return select(func.json_each(bindparam(name, type_=Text)).table_valued("value").c.value)


async def _check_digits(connection: AsyncConnection, terms: BookTerms, balances: Iterable[Decimal]) -> None:
    """Refuse what a NUMERIC of other databases refuses: SQLite would store it, and beyond 15 digits round it."""
    found = _NUMERIC.fullmatch(terms.column_type)
    if found is None:
        return
    digits, scale = map(int, found.groups())
    beyond = next((balance for balance in balances if balance and balance.adjusted() >= digits - scale), None)
    if beyond is None:
        return
    # an error of the database's own, so that it is this transfer's and no other's
    table = f"heavylift_balance_{digits}_{scale}"
    check = f"CONSTRAINT heavylift_balance_is_numeric_{digits}_{scale} CHECK (abs(balance) < 1e{digits - scale})"
    await connection.exec_driver_sql(f"CREATE TEMP TABLE IF NOT EXISTS {table} (balance REAL {check})")
    await connection.exec_driver_sql(f"INSERT INTO temp.{table} VALUES (?)", (float(beyond),))  # noqa: S608  # our own


def _heads() -> "Select[str, int, Decimal]":
    asked = func.json_each(bindparam("accounts", type_=Text)).table_valued("value").alias("asked")
    last, other = ENTRIES.alias("last"), ENTRIES.alias("other")

    def whose(entries: FromClause) -> ColumnElement[bool]:
        return and_(
            entries.c.accounts_table == bindparam("accounts_table", type_=Text),
            entries.c.money_column == bindparam("money_column", type_=Text),
            entries.c.account == asked.c.value,
        )

    newest = select(func.max(other.c.version)).where(whose(other)).correlate(asked).scalar_subquery()
    joined = asked.join(last, and_(whose(last), last.c.version == newest))
    return select(last.c.account, last.c.version, last.c.balance_after).select_from(joined)


_READ_HEADS: Final = _heads()

_READ_HEADERS: Final = (
    select(TRANSFERS, REFUSALS.c.message)
    .select_from(TRANSFERS.outerjoin(REFUSALS, REFUSALS.c.idempotency_key == TRANSFERS.c.idempotency_key))
    .where(TRANSFERS.c.idempotency_key.in_(_listed("keys")))
)
