"""The ledger's tables, as SQLAlchemy sees them. What migrations create is held to this by a test.

What changes with every chunk lives in `heavylift_progress`, narrow and indexed by its primary key only, apart from
parameters, errors and history: under a long snapshot a hot row's versions pile up, and must be cheap.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    func,
)

from worker.database.column_types import Document, Identifier, Instant, Prose, Serial, utc_now

METADATA = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)


def _run_reference(*, primary_key: bool = False) -> Column[str]:
    # runs are renamed when an id is used again (`<id>~1`), and everything that belongs to them goes along
    reference = ForeignKey("heavylift_runs.id", ondelete="CASCADE", onupdate="CASCADE")
    return Column("run_id", Identifier(), reference, primary_key=primary_key, nullable=False)


RUNS = Table(
    "heavylift_runs",
    METADATA,
    Column("id", Identifier(), primary_key=True),
    Column("job", String(255), nullable=False),
    Column("queue", String(255), nullable=False),
    Column("params", Document(), nullable=False),
    Column("options", Document(), nullable=False),
    Column("status", String(16), nullable=False),
    Column("waiting_for", Prose()),
    Column("due_at", Instant()),
    # arq's enqueue time in ms: with the id it tells a redelivery from a new use of the id
    Column("enqueued_ms", BigInteger, nullable=False),
    Column("enqueued_at", Instant(), nullable=False),
    Column("started_at", Instant()),
    Column("finished_at", Instant()),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("interruptions", Integer, nullable=False, server_default="0"),
    Column("crashes", Integer, nullable=False, server_default="0"),
    Column("worker", String(255)),
    Column("result", Document()),
    Column("error", Document()),
    # who asked for it, as our client, command or HTTP knows; NULL for a run that came by arq's wire alone
    Column("enqueued_by", String(255)),
    # what a person should know of the run though it goes on: warnings of its preflight, say
    Column("notes", Document()),
    Index(None, "status", "enqueued_at"),
    Index(None, "enqueued_at"),
)
"""One row a run: what was asked for, where it stands, how it ended."""

PROGRESS = Table(
    "heavylift_progress",
    METADATA,
    _run_reference(primary_key=True),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column("token", Identifier()),
    # true from a claim to its outcome: a claim that finds it true follows a crash
    Column("open", Boolean, nullable=False, server_default=func.false()),
    Column("chunk", BigInteger, nullable=False, server_default="0"),
    Column("claimed_chunk", BigInteger, nullable=False, server_default="0"),
    Column("crash_streak", Integer, nullable=False, server_default="0"),
    # attempts that ended in an error since the last committed chunk
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("cursor", Document()),
    Column("done", BigInteger, nullable=False, server_default="0"),
    Column("total", BigInteger),
    Column("counters", Document()),
    Column("chunk_rows", Integer, nullable=False, server_default="0"),
    Column("wanted", String(8)),
    Column("updated_at", Instant()),
)
"""One narrow row a run: the fence, and what each chunk's transaction moves on."""

ATTEMPTS = Table(
    "heavylift_attempts",
    METADATA,
    _run_reference(primary_key=True),
    Column("fence", BigInteger, primary_key=True, autoincrement=False),
    Column("worker", String(255), nullable=False),
    Column("started_at", Instant(), nullable=False),
    Column("ended_at", Instant(), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("first_chunk", BigInteger, nullable=False),
    Column("error", Document()),
)
"""One row an attempt that ended: its outcome, and the error with its traceback where there was one."""

QUARANTINE = Table(
    "heavylift_quarantine",
    METADATA,
    Column("id", Serial(), primary_key=True, autoincrement=True),
    _run_reference(),
    Column("chunk", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("reason", Prose(), nullable=False),
    Column("sqlstate", String(5)),
    Column("constraint_name", String(255)),
    Column("payload", Document(), nullable=False),
    Column("created_at", Instant(), nullable=False, server_default=utc_now()),
    Column("replayed_at", Instant()),
    Index(None, "run_id", "id"),
    sqlite_autoincrement=True,
)
"""One row a refused row: where it stood in its source, why it was refused, and what it held."""

MOVES = Table(
    "heavylift_moves",
    METADATA,
    Column("id", Serial(), primary_key=True, autoincrement=True),
    # no reference: runs are pruned, an audit trail is not
    Column("run_id", Identifier(), nullable=False),
    Column("table_name", String(255), nullable=False),
    Column("row_key", Document(), nullable=False),
    Column("column_name", String(255), nullable=False),
    Column("old_value", Document()),
    Column("new_value", Document()),
    Column("reason", Prose(), nullable=False),
    Column("actor", String(255), nullable=False),
    Column("moved_at", Instant(), nullable=False, server_default=utc_now()),
    Index(None, "run_id", "id"),
    sqlite_autoincrement=True,
)
"""One row a moved row: which column of which row held what, what it holds now, who asked for it and why."""
