"""Who asked for a run and what it has to say; the audit trail of moved rows."""

import sqlalchemy as sa
from alembic import op

from worker.database.column_types import Document, Identifier, Instant, Prose, Serial, utc_now

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two columns to runs, and the table of moves."""
    op.add_column("heavylift_runs", sa.Column("enqueued_by", sa.String(255)))
    op.add_column("heavylift_runs", sa.Column("notes", Document()))
    op.create_table(
        "heavylift_moves",
        sa.Column("id", Serial(), autoincrement=True, nullable=False),
        sa.Column("run_id", Identifier(), nullable=False),
        sa.Column("table_name", sa.String(255), nullable=False),
        sa.Column("row_key", Document(), nullable=False),
        sa.Column("column_name", sa.String(255), nullable=False),
        sa.Column("old_value", Document()),
        sa.Column("new_value", Document()),
        sa.Column("reason", Prose(), nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("moved_at", Instant(), nullable=False, server_default=utc_now()),
        sa.PrimaryKeyConstraint("id", name="heavylift_moves_pkey"),
        sqlite_autoincrement=True,
    )
    op.create_index("heavylift_moves_run_id_id_idx", "heavylift_moves", ["run_id", "id"])


def downgrade() -> None:
    """Drop them, and the audit trail with them."""
    op.drop_table("heavylift_moves")
    op.drop_column("heavylift_runs", "notes")
    op.drop_column("heavylift_runs", "enqueued_by")
