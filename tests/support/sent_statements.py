"""What an engine sends while tests watch: the kinds of a chunk's statements, which must not grow with its rows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from sqlalchemy import event
from sqlalchemy.engine import Connection

from worker.database.engine import Database

_BEGIN: Final = "BEGIN"
_ADVANCE: Final = "UPDATE heavylift_progress"


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """The first words of each statement that the engine sends, in order, and where a transaction begins; no COMMIT."""
    seen: list[str] = []

    def see(_: Connection, __: object, statement: str, *___: object) -> None:
        seen.append(" ".join(statement.split()[:2]))

    def see_begin(_: Connection) -> None:
        seen.append(_BEGIN)

    event.listen(database.engine.sync_engine, "before_cursor_execute", see)
    event.listen(database.engine.sync_engine, "begin", see_begin)
    try:
        yield seen
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", see)
        event.remove(database.engine.sync_engine, "begin", see_begin)


def chunks(seen: Sequence[str]) -> list[list[str]]:
    """The kinds of the statements of each chunk that had rows, from its savepoint to its cursor.

    Args:
        seen: what one run sent, one transaction after the other.
    """
    found = []
    begins = [at for at, statement in enumerate(seen) if statement == _BEGIN]
    for begin, end in zip(begins, [*begins[1:], len(seen)], strict=True):
        sent = seen[begin + 1 : end]
        if any(statement.startswith("SAVEPOINT") for statement in sent):
            found.append([statement.split()[0] for statement in sent[: sent.index(_ADVANCE) + 1]])
    return found
