"""The books of transfers: headers, entries, refusals, and the guard that they are only added to."""

import sqlalchemy as sa
from alembic import op

from worker.database.books_guard import GuardBooks, UnguardBooks
from worker.database.column_types import Identifier, Instant, Money, Prose, utc_now
from worker.database.guards import execute_guard
from worker.database.money_checks import MoneyCheck

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the three tables and guard them."""
    _create_transfers()
    _create_entries()
    _create_refusals()
    execute_guard(op.get_bind(), GuardBooks())


def downgrade() -> None:
    """Drop them, and every transfer's history with them."""
    execute_guard(op.get_bind(), UnguardBooks())
    for table in ("refusals", "entries", "transfers"):
        op.drop_table(f"heavylift_{table}")


def _create_transfers() -> None:
    op.create_table(
        "heavylift_transfers",
        sa.Column("idempotency_key", Identifier(), nullable=False),
        sa.Column("request_hash", sa.String(64), nullable=False),
        sa.Column("accounts_table", Identifier(), nullable=False),
        sa.Column("money_column", Identifier(), nullable=False),
        sa.Column("from_account", Identifier(), nullable=False),
        sa.Column("to_account", Identifier(), nullable=False),
        sa.Column("amount", Money(), nullable=False),
        sa.Column("reason", Prose(), nullable=False),
        sa.Column("actor", Identifier(), nullable=False),
        sa.Column("run_id", Identifier(), nullable=False),
        _created_at(),
        sa.PrimaryKeyConstraint("idempotency_key", name="heavylift_transfers_pkey"),
        MoneyCheck("amount > 0 AND amount - amount = 0", name="heavylift_transfers_amount_check"),
    )
    op.create_index("heavylift_transfers_run_id_idx", "heavylift_transfers", ["run_id"])


def _create_entries() -> None:
    op.create_table(
        "heavylift_entries",
        sa.Column("accounts_table", Identifier(), nullable=False),
        sa.Column("money_column", Identifier(), nullable=False),
        sa.Column("account", Identifier(), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("idempotency_key", Identifier()),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("amount", Money(), nullable=False),
        sa.Column("balance_before", Money(), nullable=False),
        sa.Column("balance_after", Money(), nullable=False),
        _created_at(),
        sa.PrimaryKeyConstraint("accounts_table", "money_column", "account", "version", name="heavylift_entries_pkey"),
        _transfer_key("heavylift_entries"),
        sa.UniqueConstraint("idempotency_key", "kind", name="heavylift_entries_idempotency_key_kind_key"),
        MoneyCheck("balance_after = balance_before + amount", name="heavylift_entries_after_check"),
        MoneyCheck(
            "balance_before - balance_before = 0 AND amount - amount = 0", name="heavylift_entries_finite_check"
        ),
        MoneyCheck(
            "(kind = 'opening' AND version = 1 AND balance_before = 0 AND idempotency_key IS NULL) OR "
            "(kind = 'debit' AND version > 1 AND amount < 0 AND balance_after >= 0 AND idempotency_key IS NOT NULL) OR "
            "(kind = 'credit' AND version > 1 AND amount > 0 AND idempotency_key IS NOT NULL)",
            name="heavylift_entries_kind_check",
        ),
    )


def _create_refusals() -> None:
    op.create_table(
        "heavylift_refusals",
        sa.Column("idempotency_key", Identifier(), nullable=False),
        sa.Column("code", sa.String(32), nullable=False),
        sa.Column("message", Prose(), nullable=False),
        _created_at(),
        sa.PrimaryKeyConstraint("idempotency_key", name="heavylift_refusals_pkey"),
        _transfer_key("heavylift_refusals"),
    )


def _created_at() -> sa.Column[object]:
    return sa.Column("created_at", Instant(), nullable=False, server_default=utc_now())


def _transfer_key(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["idempotency_key"], ["heavylift_transfers.idempotency_key"], name=f"{table}_idempotency_key_fkey"
    )
