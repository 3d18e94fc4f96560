"""The statements of the books on PostgreSQL: arrays in, one statement for any number of rows.

Owns them. The books' own tables are written by fixed text; the accounts' identifiers come from their registered table.
"""

from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Final

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    String,
    Table,
    Text,
    any_,
    bindparam,
    cast,
    func,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import ReturningUpdate
from sqlalchemy.types import NullType

from worker.core.transfer_terms import BookTerms
from worker.core.transfers import Entry, Refusal, Transfer
from worker.database.book_statements import Head, Header, Origin, StoredTransfer, account_columns
from worker.database.column_types import Money
from worker.database.postgres.exact_types import CatalogueType

_ADD_HEADERS: Final = text(
    # sorted, so that two runs with the same keys meet at the first of them, and one waits for the other
    """
    INSERT INTO heavylift_transfers
        (idempotency_key, request_hash, accounts_table, money_column, from_account, to_account, amount, reason, actor,
         run_id)
    SELECT key, hash, :table, :column, source, target, amount, reason, :actor, :run_id
    FROM unnest(
        CAST(:keys AS text[]), CAST(:hashes AS text[]), CAST(:sources AS text[]), CAST(:targets AS text[]),
        CAST(:amounts AS numeric[]), CAST(:reasons AS text[])
    ) AS asked (key, hash, source, target, amount, reason)
    ORDER BY key COLLATE "C"
    ON CONFLICT (idempotency_key) DO NOTHING
    RETURNING idempotency_key
    """
)

_READ_HEADERS: Final = text(
    """
    SELECT t.idempotency_key, t.request_hash, t.from_account, t.to_account, t.amount, t.reason, t.run_id, r.message,
           concat(t.accounts_table, '.', t.money_column) AS book
    FROM heavylift_transfers AS t LEFT JOIN heavylift_refusals AS r ON r.idempotency_key = t.idempotency_key
    WHERE t.idempotency_key = ANY(CAST(:keys AS text[]))
    """
)

_READ_HEADS: Final = text(
    """
    SELECT asked.account, last.version, last.balance_after
    FROM unnest(CAST(:accounts AS text[])) AS asked (account)
    CROSS JOIN LATERAL (
        SELECT version, balance_after FROM heavylift_entries
        WHERE accounts_table = :table AND money_column = :column AND account = asked.account
        ORDER BY version DESC LIMIT 1
    ) AS last
    """
)

_ADD_ENTRIES: Final = text(
    """
    INSERT INTO heavylift_entries
        (accounts_table, money_column, account, version, idempotency_key, kind, amount, balance_before, balance_after)
    SELECT :table, :column, entry.*
    FROM unnest(
        CAST(:accounts AS text[]), CAST(:versions AS bigint[]), CAST(:keys AS text[]), CAST(:kinds AS text[]),
        CAST(:amounts AS numeric[]), CAST(:before AS numeric[]), CAST(:after AS numeric[])
    ) AS entry
    """
)

_ADD_REFUSALS: Final = text(
    """
    INSERT INTO heavylift_refusals (idempotency_key, code, message)
    SELECT * FROM unnest(CAST(:keys AS text[]), CAST(:codes AS text[]), CAST(:messages AS text[])) AS refusal
    """
)


class PostgresBooks:
    """The statements for the accounts of one table.

    Args:
        table: the registered table.
        terms: its key and its money column.
    """

    def __init__(self, table: Table, terms: BookTerms) -> None:
        self._where = {"table": terms.table, "column": terms.column}
        self._lock = _lock(table, terms)
        self._update = _update(table, terms)

    async def add_headers(self, connection: AsyncConnection, origin: Origin, headers: Sequence[Header]) -> set[str]:
        """INSERT ... ON CONFLICT DO NOTHING, which waits for an unfinished transaction that has the key."""
        asked = [header.transfer for header in headers]
        added = await connection.execute(
            _ADD_HEADERS,
            {
                **self._where,
                "actor": origin.actor,
                "run_id": origin.run_id,
                "keys": [transfer.key for transfer in asked],
                "hashes": [header.request_hash for header in headers],
                "sources": [transfer.from_account for transfer in asked],
                "targets": [transfer.to_account for transfer in asked],
                "amounts": [transfer.amount for transfer in asked],
                "reasons": [transfer.reason for transfer in asked],
            },
        )
        return set(added.scalars())

    async def read_headers(self, connection: AsyncConnection, keys: Collection[str]) -> dict[str, StoredTransfer]:
        """Those that others have committed meanwhile are seen, too: this is a statement after the INSERT."""
        found = await connection.execute(_READ_HEADERS, {"keys": list(keys)})
        return {
            row.idempotency_key: StoredTransfer(
                Transfer(row.idempotency_key, row.from_account, row.to_account, row.amount, row.reason),
                row.request_hash,
                row.book,
                row.run_id,
                row.message or "",
            )
            for row in found
        }

    async def lock_accounts(self, connection: AsyncConnection, accounts: Collection[str]) -> dict[str, Decimal | None]:
        """SELECT ... ORDER BY key FOR NO KEY UPDATE, which leaves rows that refer to an account free to be added."""
        found = await connection.execute(self._lock, {"accounts": list(accounts)})
        return {row.account: row.balance for row in found}

    async def read_heads(self, connection: AsyncConnection, accounts: Collection[str]) -> dict[str, Head]:
        """One step down the primary key's index for each account."""
        found = await connection.execute(_READ_HEADS, {**self._where, "accounts": list(accounts)})
        return {row.account: Head(row.version, row.balance_after) for row in found}

    async def add_entries(self, connection: AsyncConnection, entries: Sequence[Entry]) -> None:
        """Both entries of each transfer together: a trigger sees whether they cancel out."""
        await connection.execute(
            _ADD_ENTRIES,
            {
                **self._where,
                "accounts": [entry.account for entry in entries],
                "versions": [entry.version for entry in entries],
                "keys": [entry.key for entry in entries],
                "kinds": [entry.kind.value for entry in entries],
                "amounts": [entry.amount for entry in entries],
                "before": [entry.before for entry in entries],
                "after": [entry.after for entry in entries],
            },
        )

    async def add_refusals(self, connection: AsyncConnection, refusals: Sequence[Refusal]) -> None:
        """Nothing but rows."""
        await connection.execute(
            _ADD_REFUSALS,
            {
                "keys": [refusal.key for refusal in refusals],
                "codes": [refusal.code.value for refusal in refusals],
                "messages": [refusal.message for refusal in refusals],
            },
        )

    async def set_balances(
        self, connection: AsyncConnection, balances: dict[str, Decimal]
    ) -> dict[str, Decimal | None]:
        """UPDATE ... FROM unnest(...), which also sets the columns that the model sets `onupdate`."""
        found = await connection.execute(
            self._update, {"accounts": list(balances), "balances": list(balances.values())}
        )
        return {row.account: row.balance for row in found}


def request_hash(transfers: FromClause) -> ColumnElement[str]:
    """The fingerprint of each row of the transfers' table, as `worker.core.transfers.request_hash` takes it."""
    columns = transfers.c
    named = [columns[name] for name in ("accounts_table", "money_column", "from_account", "to_account")]
    parts = [*named, cast(func.trim_scale(columns.amount), Text), columns.reason]
    measured = [
        piece
        for part in parts
        for piece in (func.octet_length(func.convert_to(part, "UTF8")), literal(":", Text), part)
    ]
    digest = func.sha256(func.convert_to(func.concat(*measured), "UTF8"))
    return func.encode(digest, "hex", type_=String)


def _as_text(table: Table, terms: BookTerms) -> tuple[ColumnElement[str], ColumnElement[Decimal]]:
    """An account's key and balance as the books have them, whatever the model's types make of them."""
    key, money = account_columns(table, terms)
    return cast(key, Text).label("account"), cast(money, Money()).label("balance")


def _array(name: str, driver_type: str) -> ColumnElement[object]:
    return cast(bindparam(name, type_=NullType()), CatalogueType(f"{driver_type}[]"))


def _lock(table: Table, terms: BookTerms) -> Select[str, Decimal]:
    keys = cast(_array("accounts", "text"), CatalogueType(f"{terms.key_type}[]"))
    key, _ = account_columns(table, terms)
    return select(*_as_text(table, terms)).where(key == any_(keys)).order_by(key).with_for_update(key_share=True)


def _update(table: Table, terms: BookTerms) -> ReturningUpdate[str, Decimal]:
    keys = cast(_array("accounts", "text"), CatalogueType(f"{terms.key_type}[]"))
    sent = func.unnest(keys, _array("balances", "numeric")).table_valued("account", "balance").render_derived("sent")
    key, money = account_columns(table, terms)
    return update(table).values({money: sent.c.balance}).where(key == sent.c.account).returning(*_as_text(table, terms))
