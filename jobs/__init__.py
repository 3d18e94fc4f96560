"""The jobs that ship, one file a family. A worker finds them by the setting WORKER_JOBS, as it finds a user's own."""

from jobs.batch_update import batch_update
from jobs.bulk_upsert import bulk_upsert
from jobs.chunked_delete import chunked_delete
from jobs.cleanup import cleanup
from jobs.export_rows import export_rows
from jobs.stream_process import stream_process
from jobs.transfer_funds import transfer_funds
from jobs.transfer_rows import transfer_rows

__all__ = [
    "batch_update",
    "bulk_upsert",
    "chunked_delete",
    "cleanup",
    "export_rows",
    "stream_process",
    "transfer_funds",
    "transfer_rows",
]
