"""The books' tables: transfers, their entries, their refusals. Rows are added and never changed.

Owns what every database can enforce of them by constraints; that nothing is edited is each dialect's to enforce
(see `worker.database.books_guard`). Nothing here refers to a run: runs are pruned, transfers never.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    String,
    Table,
    UniqueConstraint,
)

from worker.database.column_types import Identifier, Instant, Money, Prose, utc_now
from worker.database.money_checks import MoneyCheck
from worker.database.tables import METADATA


def _transfer_reference(*, primary_key: bool = False) -> Column[str]:
    header = ForeignKey("heavylift_transfers.idempotency_key")
    return Column("idempotency_key", Identifier(), header, primary_key=primary_key, nullable=not primary_key)


TRANSFERS = Table(
    "heavylift_transfers",
    METADATA,
    Column("idempotency_key", Identifier(), primary_key=True),
    Column("request_hash", String(64), nullable=False),
    Column("accounts_table", Identifier(), nullable=False),
    Column("money_column", Identifier(), nullable=False),
    Column("from_account", Identifier(), nullable=False),
    Column("to_account", Identifier(), nullable=False),
    Column("amount", Money(), nullable=False),
    Column("reason", Prose(), nullable=False),
    Column("actor", Identifier(), nullable=False),
    Column("run_id", Identifier(), nullable=False),
    Column("created_at", Instant(), nullable=False, server_default=utc_now()),
    # a difference with itself is 0 for numbers only: not for NaN, which is greater than 0, and not for infinity
    MoneyCheck("amount > 0 AND amount - amount = 0", name="heavylift_transfers_amount_check"),
    Index(None, "run_id"),
)
"""One row a transfer, carried out or refused: what was asked for, by whom, in which run."""

ENTRIES = Table(
    "heavylift_entries",
    METADATA,
    Column("accounts_table", Identifier(), primary_key=True),
    Column("money_column", Identifier(), primary_key=True),
    Column("account", Identifier(), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    _transfer_reference(),
    Column("kind", String(8), nullable=False),
    Column("amount", Money(), nullable=False),
    Column("balance_before", Money(), nullable=False),
    Column("balance_after", Money(), nullable=False),
    Column("created_at", Instant(), nullable=False, server_default=utc_now()),
    # one debit and one credit a transfer; openings, which have none, do not meet here
    UniqueConstraint("idempotency_key", "kind", name="heavylift_entries_idempotency_key_kind_key"),
    MoneyCheck("balance_after = balance_before + amount", name="heavylift_entries_after_check"),
    MoneyCheck("balance_before - balance_before = 0 AND amount - amount = 0", name="heavylift_entries_finite_check"),
    MoneyCheck(
        "(kind = 'opening' AND version = 1 AND balance_before = 0 AND idempotency_key IS NULL) OR "
        "(kind = 'debit' AND version > 1 AND amount < 0 AND balance_after >= 0 AND idempotency_key IS NOT NULL) OR "
        "(kind = 'credit' AND version > 1 AND amount > 0 AND idempotency_key IS NOT NULL)",
        name="heavylift_entries_kind_check",
    ),
)
"""One row for each change of an account's balance, in the order of its versions, which have no gap."""

REFUSALS = Table(
    "heavylift_refusals",
    METADATA,
    _transfer_reference(primary_key=True),
    Column("code", String(32), nullable=False),
    Column("message", Prose(), nullable=False),
    Column("created_at", Instant(), nullable=False, server_default=utc_now()),
)
"""One row a transfer that was refused: why. That is its final result."""

BOOKS = (TRANSFERS, ENTRIES, REFUSALS)
"""What is only ever added to."""
