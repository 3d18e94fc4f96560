"""The statements of the books on MariaDB and MySQL: rows as one JSON parameter, one statement for any number of them.

Owns them. The books' own tables are written by fixed text; the accounts' identifiers come from their registered table.
Amounts travel as text, and are numbers of 65 digits in the books, 30 of them after the point: none is ever a float.
"""

from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Final

import orjson
from sqlalchemy import (
    Dialect,
    Table,
    TextClause,
    text,
)
from sqlalchemy.dialects.mysql.base import MySQLDialect
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.errors import RequestError
from worker.core.transfer_terms import BookTerms
from worker.core.transfers import Entry, Refusal, Transfer
from worker.database.book_statements import Head, Header, Origin, StoredTransfer
from worker.database.mysql.accounts import Accounts
from worker.database.mysql.column_types import exact_collation
from worker.database.mysql.row_insert import DUPLICATE, number_of
from worker.database.mysql.sent_rows import ROWS, rows_text
from worker.database.mysql.update_statement import ALL

MOST_DECIMALS: Final = 30
"""Decimals that the books keep."""

_HEADERS: Final = 6
_ENTRIES: Final = 7
_REFUSALS: Final = 3

_ADD_HEADERS: Final = text(
    # sorted, so that two runs with the same keys meet at the first of them, and one waits for the other
    f"""
    INSERT INTO heavylift_transfers
        (accounts_table, money_column, actor, run_id, idempotency_key, request_hash, from_account, to_account, amount,
         reason)
    SELECT :table, :column, :actor, :run_id, sent.c0, sent.c1, sent.c2, sent.c3, sent.c4, sent.c5
    FROM ({rows_text(_HEADERS)}) AS sent
    """  # noqa: S608 - constant texts
)

_READ_HEADERS: Final = """
    SELECT t.idempotency_key, t.request_hash, t.from_account, t.to_account, t.amount, t.reason, t.run_id, r.message,
           concat(t.accounts_table, '.', t.money_column) AS book
    FROM ({rows}) AS sent STRAIGHT_JOIN heavylift_transfers AS t FORCE INDEX (`PRIMARY`)
        ON t.idempotency_key = CONVERT(sent.c0 USING utf8mb4) COLLATE {collation}
    LEFT JOIN heavylift_refusals AS r ON r.idempotency_key = t.idempotency_key
"""

# the last version is looked up first, each by one step down the index, and then read by its whole key
_READ_HEADS: Final = """
    SELECT asked.account, last.version, last.balance_after
    FROM (
        SELECT sent.c0 AS account, (
            SELECT e.version FROM heavylift_entries AS e
            WHERE e.accounts_table = :table AND e.money_column = :column
              AND e.account = CONVERT(sent.c0 USING utf8mb4) COLLATE {collation}
            ORDER BY e.version DESC LIMIT 1) AS version
        FROM ({rows}) AS sent LIMIT {all}
    ) AS asked
    STRAIGHT_JOIN heavylift_entries AS last FORCE INDEX (`PRIMARY`)
        ON last.accounts_table = :table AND last.money_column = :column
       AND last.account = CONVERT(asked.account USING utf8mb4) COLLATE {collation} AND last.version = asked.version
"""

_ADD_ENTRIES: Final = text(
    f"""
    INSERT INTO heavylift_entries
        (accounts_table, money_column, account, version, idempotency_key, kind, amount, balance_before, balance_after)
    SELECT :table, :column, sent.c0, sent.c1, sent.c2, sent.c3, sent.c4, sent.c5, sent.c6
    FROM ({rows_text(_ENTRIES)}) AS sent
    """  # noqa: S608 - constant texts
)

_ADD_REFUSALS: Final = text(
    f"""
    INSERT INTO heavylift_refusals (idempotency_key, code, message)
    SELECT sent.c0, sent.c1, sent.c2 FROM ({rows_text(_REFUSALS)}) AS sent
    """  # noqa: S608 - constant texts
)


class MySqlBooks:
    """The statements for the accounts of one table.

    Args:
        table: the registered table.
        terms: its key and its money column.

    Raises:
        RequestError: the money column has more decimals than the books.
    """

    def __init__(self, table: Table, terms: BookTerms) -> None:
        if (terms.scale or 0) > MOST_DECIMALS:
            raise RequestError(
                f"Column {terms.column!r} of table {terms.table!r} is {terms.column_type}, and the books keep "
                f"{MOST_DECIMALS} decimals. Transfers need a column of no more, for example numeric(20,2)"
            )
        self._terms = terms
        self._where = {"table": terms.table, "column": terms.column}
        self._accounts = Accounts(table, terms)

    async def add_headers(self, connection: AsyncConnection, origin: Origin, headers: Sequence[Header]) -> set[str]:
        """A plain INSERT of those that are not there, again where another session was quicker.

        Nothing is ever changed here, so that the shared lock that a duplicate leaves behind is in nobody's way.
        """
        missing = {header.transfer.key: header for header in sorted(headers, key=lambda header: header.transfer.key)}
        while missing:
            known = await self.read_headers(connection, missing)
            if known:
                missing = {key: header for key, header in missing.items() if key not in known}
                continue
            try:
                await connection.execute(
                    _ADD_HEADERS,
                    {**self._where, "actor": origin.actor, "run_id": origin.run_id, ROWS: _headers(missing.values())},
                )
            except IntegrityError as error:
                if number_of(error) != DUPLICATE or not await self.read_headers(connection, missing):
                    raise
            else:
                break
        return set(missing)

    async def read_headers(self, connection: AsyncConnection, keys: Collection[str]) -> dict[str, StoredTransfer]:
        """Those that others have committed meanwhile are seen, too: each statement sees what is committed."""
        statement = _with_collation(_READ_HEADERS, connection.dialect, 1)
        found = await connection.execute(statement, {ROWS: _listed(keys)})
        return {
            row.idempotency_key: StoredTransfer(
                Transfer(
                    row.idempotency_key,
                    row.from_account,
                    row.to_account,
                    self._terms.exact(row.amount),
                    row.reason,
                ),
                row.request_hash,
                row.book,
                row.run_id,
                row.message or "",
            )
            for row in found
        }

    async def lock_accounts(self, connection: AsyncConnection, accounts: Collection[str]) -> dict[str, Decimal | None]:
        """SELECT ... FOR UPDATE, by the primary key and in its order."""
        locking = self._accounts.read().with_for_update()
        found = await connection.execute(locking, {ROWS: _listed(accounts)})
        return {row.account: self._exact(row.balance) for row in found}

    async def read_heads(self, connection: AsyncConnection, accounts: Collection[str]) -> dict[str, Head]:
        """Two steps down the primary key's index for each account."""
        statement = _with_collation(_READ_HEADS, connection.dialect, 1)
        found = await connection.execute(statement, {**self._where, ROWS: _listed(accounts)})
        return {row.account: Head(row.version, self._terms.exact(row.balance_after)) for row in found}

    async def add_entries(self, connection: AsyncConnection, entries: Sequence[Entry]) -> None:
        """One statement, whose rows the trigger sees one by one."""
        rows = [
            (
                entry.account,
                str(entry.version),
                entry.key,
                entry.kind.value,
                *(format(amount, "f") for amount in (entry.amount, entry.before, entry.after)),
            )
            for entry in entries
        ]
        await connection.execute(_ADD_ENTRIES, {**self._where, ROWS: orjson.dumps(rows).decode()})

    async def add_refusals(self, connection: AsyncConnection, refusals: Sequence[Refusal]) -> None:
        """Nothing but rows."""
        rows = [(refusal.key, refusal.code.value, refusal.message) for refusal in refusals]
        await connection.execute(_ADD_REFUSALS, {ROWS: orjson.dumps(rows).decode()})

    async def set_balances(
        self, connection: AsyncConnection, balances: dict[str, Decimal]
    ) -> dict[str, Decimal | None]:
        """UPDATE of a join, which also sets the columns that the model sets `onupdate`; and what it made of them."""
        rows = [(account, format(balance, "f")) for account, balance in balances.items()]
        changing, made = self._accounts.update()
        await connection.execute(changing, {ROWS: orjson.dumps(rows).decode(), **made})
        found = await connection.execute(self._accounts.read(), {ROWS: _listed(balances)})
        return {row.account: self._exact(row.balance) for row in found}

    def _exact(self, amount: Decimal | int | None) -> Decimal | None:
        return None if amount is None else self._terms.exact(amount)


def _with_collation(statement: str, dialect: Dialect, width: int) -> TextClause:
    if not isinstance(dialect, MySQLDialect):
        raise TypeError(f"{dialect.name} is another database")
    return text(statement.format(rows=rows_text(width), collation=exact_collation(dialect), all=ALL))


def _listed(names: Collection[str]) -> str:
    return orjson.dumps([[name] for name in names]).decode()


def _headers(headers: Collection[Header]) -> str:
    rows = [
        (
            header.transfer.key,
            header.request_hash,
            header.transfer.from_account,
            header.transfer.to_account,
            format(header.transfer.amount, "f"),
            header.transfer.reason,
        )
        for header in headers
    ]
    return orjson.dumps(rows).decode()
