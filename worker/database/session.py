"""A run's own session: limits set first thing in each transaction, and the commit kept for the runner.

Also the short look past it, for what must not keep the run's transaction open.

Owns what `ctx.session` may do. Refuses `commit`, `rollback` and `begin` to jobs: a chunk's rows and its cursor would
no longer commit together.
"""

from collections.abc import Sequence
from typing import Any, NoReturn, TypeVarTuple

from sqlalchemy import Connection, Row, Select, event
from sqlalchemy.ext.asyncio import AsyncSession as PlainSession
from sqlalchemy.orm import Session, SessionTransaction
from sqlmodel.ext.asyncio.session import AsyncSession

from worker.core.errors import TransactionMisuseError
from worker.core.settings import Settings
from worker.database.engine import Database

Columns = TypeVarTuple("Columns")


class RunSession(AsyncSession):
    """An `AsyncSession` whose transactions only the runner ends."""

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

    async def end_transaction(self) -> None:
        """Commit. The runner's, after it moved the run on in the same transaction."""
        await super().commit()


async def fetch(database: Database, settings: Settings, statement: Select[*Columns]) -> Sequence[Row[*Columns]]:
    """Run a query in a read-only transaction of its own, under the usual limits."""
    async with database.engine.connect() as connection:
        await connection.execution_options(**database.dialect.read_only)
        async with connection.begin():
            await connection.run_sync(database.dialect.set_limits, settings)
            return (await connection.execute(statement)).all()


def open_session(database: Database, settings: Settings) -> RunSession:
    """A new session for one run: nothing expires at commit, so rows stay readable between chunks."""
    session = RunSession(database.engine, expire_on_commit=False)

    def set_limits(_: Session, transaction: SessionTransaction, connection: Connection) -> None:
        if not transaction.nested:
            database.dialect.set_limits(connection, settings)

    event.listen(session.sync_session, "after_begin", set_limits)
    return session
