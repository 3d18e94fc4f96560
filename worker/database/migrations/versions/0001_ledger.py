"""The ledger's first version: runs, progress, attempts, quarantine."""

import sqlalchemy as sa
from alembic import op

from worker.database.column_types import Document, Identifier, Instant, Prose, Serial, utc_now

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the four tables."""
    _create_runs()
    _create_progress()
    _create_attempts()
    _create_quarantine()


def downgrade() -> None:
    """Drop them, and every run's history with them."""
    for table in ("quarantine", "attempts", "progress", "runs"):
        op.drop_table(f"heavylift_{table}")


def _create_runs() -> None:
    op.create_table(
        "heavylift_runs",
        sa.Column("id", Identifier(), nullable=False),
        sa.Column("job", sa.String(255), nullable=False),
        sa.Column("queue", sa.String(255), nullable=False),
        sa.Column("params", Document(), nullable=False),
        sa.Column("options", Document(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("waiting_for", Prose()),
        sa.Column("due_at", Instant()),
        sa.Column("enqueued_ms", sa.BigInteger, nullable=False),
        sa.Column("enqueued_at", Instant(), nullable=False),
        sa.Column("started_at", Instant()),
        sa.Column("finished_at", Instant()),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("interruptions", sa.Integer, nullable=False, server_default="0"),
        sa.Column("crashes", sa.Integer, nullable=False, server_default="0"),
        sa.Column("worker", sa.String(255)),
        sa.Column("result", Document()),
        sa.Column("error", Document()),
        sa.PrimaryKeyConstraint("id", name="heavylift_runs_pkey"),
    )
    op.create_index("heavylift_runs_status_enqueued_at_idx", "heavylift_runs", ["status", "enqueued_at"])
    op.create_index("heavylift_runs_enqueued_at_idx", "heavylift_runs", ["enqueued_at"])


def _create_progress() -> None:
    op.create_table(
        "heavylift_progress",
        sa.Column("run_id", Identifier(), nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("token", Identifier()),
        sa.Column("open", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("chunk", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("claimed_chunk", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("crash_streak", sa.Integer, nullable=False, server_default="0"),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("cursor", Document()),
        sa.Column("done", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("total", sa.BigInteger),
        sa.Column("counters", Document()),
        sa.Column("chunk_rows", sa.Integer, nullable=False, server_default="0"),
        sa.Column("wanted", sa.String(8)),
        sa.Column("updated_at", Instant()),
        sa.PrimaryKeyConstraint("run_id", name="heavylift_progress_pkey"),
        _run_key("heavylift_progress"),
        # every chunk writes a version of this row: room on its page keeps them there, off the index
        postgresql_with={"fillfactor": 30},
    )


def _create_attempts() -> None:
    op.create_table(
        "heavylift_attempts",
        sa.Column("run_id", Identifier(), nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("worker", sa.String(255), nullable=False),
        sa.Column("started_at", Instant(), nullable=False),
        sa.Column("ended_at", Instant(), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("first_chunk", sa.BigInteger, nullable=False),
        sa.Column("error", Document()),
        sa.PrimaryKeyConstraint("run_id", "fence", name="heavylift_attempts_pkey"),
        _run_key("heavylift_attempts"),
    )


def _create_quarantine() -> None:
    op.create_table(
        "heavylift_quarantine",
        sa.Column("id", Serial(), autoincrement=True, nullable=False),
        sa.Column("run_id", Identifier(), nullable=False),
        sa.Column("chunk", sa.BigInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("reason", Prose(), nullable=False),
        sa.Column("sqlstate", sa.String(5)),
        sa.Column("constraint_name", sa.String(255)),
        sa.Column("payload", Document(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False, server_default=utc_now()),
        sa.Column("replayed_at", Instant()),
        sa.PrimaryKeyConstraint("id", name="heavylift_quarantine_pkey"),
        _run_key("heavylift_quarantine"),
        # no number is given twice, though refused rows are forgotten
        sqlite_autoincrement=True,
    )
    op.create_index("heavylift_quarantine_run_id_id_idx", "heavylift_quarantine", ["run_id", "id"])


def _run_key(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["run_id"],
        ["heavylift_runs.id"],
        name=f"{table}_run_id_fkey",
        ondelete="CASCADE",
        onupdate="CASCADE",
    )
