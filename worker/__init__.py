"""Heavylift: a background worker for heavy database work. These are its public names; jobs import nothing else.

A job is declared with `@job` and works with its `JobContext`; a service enqueues with `open_client`; `Retry`, `Snooze`
and `Cancel` end an attempt on purpose; every error is a `HeavyliftError`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.client import Client, open_client
    from worker.core.archive_columns import archive_columns
    from worker.core.breaker import check_refused
    from worker.core.errors import (
        BooksError,
        Cancel,
        ConflictError,
        HeavyliftError,
        InvalidRowError,
        NotAllowedError,
        OutputError,
        ParametersError,
        PreflightError,
        RequestError,
        ResultError,
        Retry,
        Snooze,
        TooManyRefusedError,
        UnknownColumnError,
    )
    from worker.core.isolated import Isolated, Refused
    from worker.core.merge_counts import MergeCounts
    from worker.core.moving import MovingRow
    from worker.core.options import RunOptions
    from worker.core.preflight import Surroundings
    from worker.core.progress import Progress
    from worker.core.refused import RefusedRow
    from worker.core.settings import Settings, load_settings
    from worker.core.table_facts import ColumnFacts, TableFacts, UniqueKey
    from worker.core.transfer_request import AccountText, AmountText, ReasonText, TransferKey
    from worker.core.transfer_terms import TRANSFER_FIELDS, BookTerms
    from worker.core.transfer_verdicts import TransferEnd, Verdict
    from worker.core.transfers import Transfer, exact_sum
    from worker.core.update_counts import UpdateCounts
    from worker.core.where import Condition, parse_where
    from worker.declare.context import Chunk, JobContext
    from worker.declare.processors import PROCESSORS, ChangedRows, GivenRows, Processors, processor
    from worker.declare.registry import REGISTRY, Registry, job
    from worker.declare.tables import RegisteredTable, Tables
    from worker.declare.tools import Books, LedgerPage, Mover, RowUpdate, Upsert, WhereUpdate
    from worker.declare.walk import Span, Walk, primary_walk
    from worker.output.open import open_output
    from worker.output.segmented import SegmentedOutput
    from worker.output.spec import OutputSpec, check_output
    from worker.queue.wire import json_deserializer, json_serializer
    from worker.run.feed import Feed, Portion
    from worker.run.run_file import RunFile
    from worker.run.sources import check_source, open_source
    from worker.run.where import check_bounded, check_where, where_clause
    from worker.source.batch import ABSENT, Batch, RowFault, Source
    from worker.source.spec import SourceSpec
    from worker.source.table_columns import writable_columns
    from worker.source.transfer_rows import TransferValidator
    from worker.source.validate import RowValidator, ValidatedBatch
    from worker.source.validate_faults import row_payload

_HOMES: dict[str, tuple[str, ...]] = {
    "worker.client": (
        "Client",
        "open_client",
    ),
    "worker.core.archive_columns": ("archive_columns",),
    "worker.core.breaker": ("check_refused",),
    "worker.core.errors": (
        "BooksError",
        "Cancel",
        "ConflictError",
        "HeavyliftError",
        "InvalidRowError",
        "NotAllowedError",
        "OutputError",
        "ParametersError",
        "PreflightError",
        "RequestError",
        "ResultError",
        "Retry",
        "Snooze",
        "TooManyRefusedError",
        "UnknownColumnError",
    ),
    "worker.core.isolated": (
        "Isolated",
        "Refused",
    ),
    "worker.core.merge_counts": ("MergeCounts",),
    "worker.core.moving": ("MovingRow",),
    "worker.core.options": ("RunOptions",),
    "worker.core.preflight": ("Surroundings",),
    "worker.core.progress": ("Progress",),
    "worker.core.refused": ("RefusedRow",),
    "worker.core.settings": (
        "Settings",
        "load_settings",
    ),
    "worker.core.table_facts": (
        "ColumnFacts",
        "TableFacts",
        "UniqueKey",
    ),
    "worker.core.transfer_request": (
        "AccountText",
        "AmountText",
        "ReasonText",
        "TransferKey",
    ),
    "worker.core.transfer_terms": (
        "TRANSFER_FIELDS",
        "BookTerms",
    ),
    "worker.core.transfer_verdicts": (
        "TransferEnd",
        "Verdict",
    ),
    "worker.core.transfers": (
        "Transfer",
        "exact_sum",
    ),
    "worker.core.update_counts": ("UpdateCounts",),
    "worker.core.where": (
        "Condition",
        "parse_where",
    ),
    "worker.declare.context": (
        "Chunk",
        "JobContext",
    ),
    "worker.declare.processors": (
        "PROCESSORS",
        "ChangedRows",
        "GivenRows",
        "Processors",
        "processor",
    ),
    "worker.declare.registry": (
        "REGISTRY",
        "Registry",
        "job",
    ),
    "worker.declare.tables": (
        "RegisteredTable",
        "Tables",
    ),
    "worker.declare.tools": (
        "Books",
        "LedgerPage",
        "Mover",
        "RowUpdate",
        "Upsert",
        "WhereUpdate",
    ),
    "worker.declare.walk": (
        "Span",
        "Walk",
        "primary_walk",
    ),
    "worker.output.open": ("open_output",),
    "worker.output.segmented": ("SegmentedOutput",),
    "worker.output.spec": (
        "OutputSpec",
        "check_output",
    ),
    "worker.queue.wire": (
        "json_deserializer",
        "json_serializer",
    ),
    "worker.run.feed": (
        "Feed",
        "Portion",
    ),
    "worker.run.run_file": ("RunFile",),
    "worker.run.sources": (
        "check_source",
        "open_source",
    ),
    "worker.run.where": (
        "check_bounded",
        "check_where",
        "where_clause",
    ),
    "worker.source.batch": (
        "ABSENT",
        "Batch",
        "RowFault",
        "Source",
    ),
    "worker.source.spec": ("SourceSpec",),
    "worker.source.table_columns": ("writable_columns",),
    "worker.source.transfer_rows": ("TransferValidator",),
    "worker.source.validate": (
        "RowValidator",
        "ValidatedBatch",
    ),
    "worker.source.validate_faults": ("row_payload",),
}
"""Where each name lives. It is imported when it is first used: a command's `--help` needs none of them."""

__all__ = [
    "ABSENT",
    "PROCESSORS",
    "REGISTRY",
    "TRANSFER_FIELDS",
    "AccountText",
    "AmountText",
    "Batch",
    "BookTerms",
    "Books",
    "BooksError",
    "Cancel",
    "ChangedRows",
    "Chunk",
    "Client",
    "ColumnFacts",
    "Condition",
    "ConflictError",
    "Feed",
    "GivenRows",
    "HeavyliftError",
    "InvalidRowError",
    "Isolated",
    "JobContext",
    "LedgerPage",
    "MergeCounts",
    "Mover",
    "MovingRow",
    "NotAllowedError",
    "OutputError",
    "OutputSpec",
    "ParametersError",
    "Portion",
    "PreflightError",
    "Processors",
    "Progress",
    "ReasonText",
    "Refused",
    "RefusedRow",
    "RegisteredTable",
    "Registry",
    "RequestError",
    "ResultError",
    "Retry",
    "RowFault",
    "RowUpdate",
    "RowValidator",
    "RunFile",
    "RunOptions",
    "SegmentedOutput",
    "Settings",
    "Snooze",
    "Source",
    "SourceSpec",
    "Span",
    "Surroundings",
    "TableFacts",
    "Tables",
    "TooManyRefusedError",
    "Transfer",
    "TransferEnd",
    "TransferKey",
    "TransferValidator",
    "UniqueKey",
    "UnknownColumnError",
    "UpdateCounts",
    "Upsert",
    "ValidatedBatch",
    "Verdict",
    "Walk",
    "WhereUpdate",
    "archive_columns",
    "check_bounded",
    "check_output",
    "check_refused",
    "check_source",
    "check_where",
    "exact_sum",
    "job",
    "json_deserializer",
    "json_serializer",
    "load_settings",
    "open_client",
    "open_output",
    "open_source",
    "parse_where",
    "primary_walk",
    "processor",
    "row_payload",
    "where_clause",
    "writable_columns",
]


def __getattr__(name: str) -> object:
    """A public name, from its home."""
    for home, names in _HOMES.items():
        if name in names:
            value: object = getattr(import_module(home), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
