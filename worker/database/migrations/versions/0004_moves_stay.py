"""The audit trail of moved rows is only ever added to."""

from alembic import op

from worker.database.guards import execute_guard
from worker.database.moves_guard import GuardMoves, UnguardMoves

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Guard the table."""
    execute_guard(op.get_bind(), GuardMoves())


def downgrade() -> None:
    """Take the guard away."""
    execute_guard(op.get_bind(), UnguardMoves())
