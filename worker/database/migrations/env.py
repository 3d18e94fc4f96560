"""Alembic's entry: runs the ledger's migrations on the connection that `worker.database.migrate` hands over."""

from alembic import context

from worker.database import transfer_tables
from worker.database.tables import METADATA

# imported for the tables that it adds to the metadata
_ = transfer_tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table="heavylift_version",
    transaction_per_migration=False,
)
context.run_migrations()
