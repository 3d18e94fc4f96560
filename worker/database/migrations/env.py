"""Alembic's entry: runs the ledger's migrations on the connection that `worker.database.migrate` hands over."""

from alembic import context

from worker.database.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table="heavylift_version",
    transaction_per_migration=False,
)
context.run_migrations()
