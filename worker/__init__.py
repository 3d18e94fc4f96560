"""Heavylift: a background worker for heavy database work. These are its public names; jobs import nothing else.

A job is declared with `@job` and works with its `JobContext`; a service enqueues with `open_client`; `Retry`, `Snooze`
and `Cancel` end an attempt on purpose; every error is a `HeavyliftError`.
"""

from worker.client import Client, open_client
from worker.core.errors import (
    Cancel,
    HeavyliftError,
    InvalidRowError,
    ParametersError,
    RequestError,
    Retry,
    Snooze,
    UnknownColumnError,
)
from worker.core.merge_counts import MergeCounts
from worker.core.progress import Progress
from worker.core.refused import RefusedRow
from worker.core.settings import Settings, load_settings
from worker.core.table_facts import ColumnFacts, TableFacts, UniqueKey
from worker.declare.context import Chunk, JobContext, Upsert
from worker.declare.registry import REGISTRY, Registry, job
from worker.declare.tables import RegisteredTable, Tables
from worker.queue.wire import json_deserializer, json_serializer
from worker.run.feed import Feed, Portion, estimate_total
from worker.source.batch import ABSENT, Batch, RowFault, RowSource
from worker.source.limits import source_limits
from worker.source.open import open_source
from worker.source.spec import SourceLimits, SourceSpec, check_inline
from worker.source.validate import RowValidator, ValidatedBatch

__all__ = [
    "ABSENT",
    "REGISTRY",
    "Batch",
    "Cancel",
    "Chunk",
    "Client",
    "ColumnFacts",
    "Feed",
    "HeavyliftError",
    "InvalidRowError",
    "JobContext",
    "MergeCounts",
    "ParametersError",
    "Portion",
    "Progress",
    "RefusedRow",
    "RegisteredTable",
    "Registry",
    "RequestError",
    "Retry",
    "RowFault",
    "RowSource",
    "RowValidator",
    "Settings",
    "Snooze",
    "SourceLimits",
    "SourceSpec",
    "TableFacts",
    "Tables",
    "UniqueKey",
    "UnknownColumnError",
    "Upsert",
    "ValidatedBatch",
    "check_inline",
    "estimate_total",
    "job",
    "json_deserializer",
    "json_serializer",
    "load_settings",
    "open_client",
    "open_source",
    "source_limits",
]
