"""A run's own session: limits set first thing in each transaction, and the commit kept for the runner.

Also the short look past it, for what must not keep the run's transaction open.

Owns what `ctx.session` may do. Refuses `commit`, `rollback` and `begin` to jobs: a chunk's rows and its cursor would
no longer commit together.
"""

from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, NoReturn, TypeVar, TypeVarTuple

from sqlalchemy import Connection, Row, Select, event
from sqlalchemy.ext.asyncio import AsyncSession as PlainSession
from sqlalchemy.orm import Session as SyncSession
from sqlalchemy.orm import SessionTransaction
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession

from worker.core.errors import TransactionMisuseError
from worker.core.settings import Settings
from worker.database.engine import Database

T = TypeVar("T")
Columns = TypeVarTuple("Columns")


class LimitedSession(Session):
    """What a `RunSession` works with underneath.

    Attributes:
        set_limits: told of each connection that a transaction of the session begins on.
    """

    set_limits: Callable[[Connection], None]


@event.listens_for(LimitedSession, "after_begin")
def _set_limits(session: LimitedSession, transaction: SessionTransaction, connection: Connection) -> None:
    if not transaction.nested:
        session.set_limits(connection)


class RunSession(AsyncSession):
    """An `AsyncSession` whose transactions only the runner ends."""

    sync_session_class = LimitedSession
    sync_session: LimitedSession

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it: at once where no transaction is open, as after a success."""
        if self.in_transaction():
            await super().__aexit__(kind, error, trace)
        else:
            self.sync_session.close()

    async def commit(self) -> NoReturn:
        """Refused: a chunk commits when its loop goes on, the rest when the job returns."""
        raise TransactionMisuseError(
            "ctx.session.commit() would commit rows without the run's cursor. Work in chunks, "
            "`async for chunk in ctx.chunks(select(Order), key=Order.id)`, or return: the runner commits"
        )

    async def rollback(self) -> NoReturn:
        """Refused: undo a part with a savepoint, or all by raising."""
        raise TransactionMisuseError(
            "ctx.session.rollback() would undo the run's own bookkeeping. Undo a part with a savepoint, "
            "`async with ctx.session.begin_nested(): ...`, or raise an exception to undo the chunk"
        )

    def begin(self) -> NoReturn:
        """Refused: the transaction is open already."""
        raise TransactionMisuseError(
            "ctx.session is in a transaction already. For a part that may fail alone use a savepoint: "
            "`async with ctx.session.begin_nested(): ...`"
        )

    async def rows(self, statement: "Select[*tuple[Any, ...]]") -> Sequence[Row[*tuple[Any, ...]]]:
        """The rows of a query, each with all its columns, however SQLModel would unpack it."""
        return (await PlainSession.execute(self, statement)).all()

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Write what is pending and then do some work, in this transaction; returns what the work does."""
        return await self.run_sync(_write, work)

    async def end_transaction(self) -> None:
        """Commit. The runner's, after it moved the run on in the same transaction."""
        await super().commit()

    async def end_with(self, work: Callable[[Connection], bool]) -> bool:
        """Write what is pending and then do some work, and commit where it says so; whether it did."""
        return await self.run_sync(_end_with, work)


def _write(session: SyncSession, work: Callable[[Connection], T]) -> T:
    session.flush()
    return work(session.connection())


def _end_with(session: SyncSession, work: Callable[[Connection], bool]) -> bool:
    if not _write(session, work):
        return False
    session.commit()
    return True


async def carry_out(
    database: Database, settings: Settings, work: Callable[[Connection], T], *, durable: bool = True
) -> T:
    """Do some work in a transaction of its own, under the usual limits, and commit it.

    Args:
        database: where.
        settings: the limits.
        work: sends statements; what it returns is returned.
        durable: whether a crash of the server, right after, must not undo it.
    """

    def done(session: SyncSession) -> T:
        found = work(session.connection())
        session.commit()
        return found

    # of one piece: each step that is awaited by itself costs as much as a short statement
    async with open_session(database, settings, durable=durable) as session:
        return await session.run_sync(done)


async def fetch(database: Database, settings: Settings, statement: Select[*Columns]) -> Sequence[Row[*Columns]]:
    """Run a query in a read-only transaction of its own, under the usual limits."""
    async with database.reading() as connection, connection.begin():
        await connection.run_sync(database.dialect.set_limits, settings)
        return (await connection.execute(statement)).all()


def open_session(database: Database, settings: Settings, *, durable: bool = True) -> RunSession:
    """A new session for one run: nothing expires at commit, so rows stay readable between chunks."""
    session = RunSession(database.engine, expire_on_commit=False)
    session.sync_session.set_limits = partial(database.dialect.set_limits, settings=settings, durable=durable)
    return session
