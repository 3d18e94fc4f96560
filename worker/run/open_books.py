"""Books bound to one run: its session, and the isolation of transfers that the database refuses.

Owns that binding. Refuses SQL and the order of statements: `worker.database.books` has it.
"""

from collections.abc import Sequence
from itertools import chain

from worker.core.transfer_terms import BookTerms
from worker.core.transfer_verdicts import TransferEnd, Verdict
from worker.core.transfers import Transfer
from worker.database.books import Books
from worker.database.engine import Database
from worker.database.session import RunSession
from worker.run.isolate import isolate


class OpenBooks:
    """The books of one table's accounts, open to one run.

    Args:
        books: written in the run's name.
        session: the run's.
        database: whose errors tell a refused row from other trouble.
        deferred: whether the table has constraints that are checked at COMMIT only.
    """

    def __init__(self, books: Books, session: RunSession, database: Database, *, deferred: bool) -> None:
        self._books = books
        self._session = session
        self._database = database
        self._deferred = deferred

    @property
    def terms(self) -> BookTerms:
        """How they are kept."""
        return self._books.terms

    async def post(self, transfers: Sequence[Transfer]) -> list[Verdict]:
        """Carry transfers out in the chunk's transaction, in their order; a verdict for each.

        Raises:
            sqlalchemy.exc.DBAPIError: the database refused one, and so none was carried out.
        """
        connection = await self._session.connection()
        verdicts = await self._books.post(connection, transfers)
        if self._deferred:
            # at COMMIT it would be too late to tell which one was refused
            await self._database.dialect.check_deferred(connection)
        return verdicts

    async def post_each(self, transfers: Sequence[Transfer]) -> list[Verdict]:
        """Carry transfers out as `post` does, leaving out those that the database refuses: these are `DECLINED`."""

        async def apply(some: Sequence[tuple[int, Transfer]]) -> list[tuple[int, Verdict]]:
            verdicts = await self.post([transfer for _, transfer in some])
            return [(place, verdict) for (place, _), verdict in zip(some, verdicts, strict=True)]

        numbered = list(enumerate(transfers))
        # never once more: a transfer has its place among the others, or none
        found = await isolate(self._session, self._database, numbered, apply, again=lambda _: False)
        verdicts = dict(chain.from_iterable(found.results))
        for refused in found.refused:
            place, error = refused.item[0], refused.error
            verdicts[place] = Verdict(TransferEnd.DECLINED, error.message, error.sqlstate, error.constraint)
        return [verdicts[place] for place in range(len(transfers))]
