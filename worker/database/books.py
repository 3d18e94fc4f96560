"""Keeping the books: what is written for a chunk of transfers, and in which order.

```text
1  headers, in key order      a run that has one of the keys, too, waits here for the other to end
2  stored headers             of keys that were there: the same request is a replay, another one a conflict
3  accounts, in key order     locked, so that nobody moves them until the chunk is committed
4  their last entries         an account that does not hold what its books say is left alone
5  entries and refusals       what `worker.core.transfers` makes of it
6  balances
```

Keys come first and accounts second everywhere, and each in its order, so that no two chunks wait for each other in a
circle (pgledger, too, sorts all accounts of a request before it locks the first). Five statements and a savepoint do
for any number of transfers. Refuses to judge transfers and to know SQL.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.errors import BooksError
from worker.core.transfer_terms import BookTerms
from worker.core.transfer_verdicts import TransferEnd, Verdict
from worker.core.transfers import Account, Posting, Transfer, post
from worker.database.book_statements import BookStatements, Head, Header, Origin, StoredTransfer

ADVICE = "See what differs: heavylift verify transfers"


@dataclass(frozen=True, slots=True)
class _Asked:
    """A transfer, its place among those that were asked for, and its fingerprint."""

    place: int
    transfer: Transfer
    request_hash: str

    @property
    def accounts(self) -> tuple[str, str]:
        return self.transfer.from_account, self.transfer.to_account


class Books:
    """The books of one table's accounts, as one run writes them.

    Attributes:
        terms: as given.

    Args:
        statements: the database's.
        terms: of the table.
        origin: who writes.
    """

    def __init__(self, statements: BookStatements, terms: BookTerms, origin: Origin) -> None:
        self._statements = statements
        self.terms = terms
        self._origin = origin

    async def post(self, connection: AsyncConnection, transfers: Sequence[Transfer]) -> list[Verdict]:
        """Carry transfers out in the connection's transaction, in their order.

        Args:
            connection: in a transaction of the caller's.
            transfers: of keys that may repeat and may be known already.

        Returns:
            A verdict for each.

        Raises:
            BooksError: the database stored other balances than it was given.
            sqlalchemy.exc.DBAPIError: the database refused one, and so none was carried out.
        """
        verdicts: dict[int, Verdict] = {}
        left = [_Asked(at, transfer, self.terms.request_hash(transfer)) for at, transfer in enumerate(transfers)]
        while left:
            async with connection.begin_nested() as savepoint:
                found, unsound = await self._attempt(connection, left)
                if unsound:
                    # their headers must not stay: a replay would take them for carried out
                    await savepoint.rollback()
            verdicts |= unsound or found
            left = [asked for asked in left if asked.place not in verdicts]
        return [verdicts[place] for place in range(len(transfers))]

    async def _attempt(
        self, connection: AsyncConnection, asked: Sequence[_Asked]
    ) -> tuple[dict[int, Verdict], dict[int, Verdict]]:
        """Carry transfers out; or find those that need an unsound account, and then nothing else is found."""
        first: dict[str, _Asked] = {}
        for one in asked:
            first.setdefault(one.transfer.key, one)
        headers = [Header(one.transfer, one.request_hash) for one in first.values()]
        new = await self._statements.add_headers(connection, self._origin, headers)
        known = await self._statements.read_headers(connection, first.keys() - new) if len(new) < len(first) else {}
        wanted = [one.transfer for key, one in first.items() if key in new]
        accounts, unsound = await self._open(connection, wanted)
        if unsound:
            concerned = [
                one for one in asked if one.transfer.key in new and not unsound.keys().isdisjoint(one.accounts)
            ]
            return {}, {
                one.place: Verdict(TransferEnd.UNSOUND, next(unsound[name] for name in one.accounts if name in unsound))
                for one in concerned
            }
        posting = post(wanted, accounts)
        await self._write(connection, posting)
        refused = {refusal.key: refusal.message for refusal in posting.refusals}
        return {one.place: _verdict(one, first[one.transfer.key], known, refused) for one in asked}, {}

    async def _open(
        self, connection: AsyncConnection, transfers: Sequence[Transfer]
    ) -> tuple[dict[str, Account], dict[str, str]]:
        """Lock the accounts of transfers: those that can be booked, and what is wrong with those that cannot."""
        if not transfers:
            return {}, {}
        names = {name for transfer in transfers for name in (transfer.from_account, transfer.to_account)}
        balances = await self._statements.lock_accounts(connection, names)
        heads = await self._statements.read_heads(connection, balances)
        accounts: dict[str, Account] = {}
        unsound: dict[str, str] = {}
        for name, balance in balances.items():
            head = heads.get(name)
            wrong = self._wrong_with(name, balance, head)
            if wrong is None and balance is not None:
                accounts[name] = Account(balance, head.version if head else 0)
            elif wrong is not None:
                unsound[name] = wrong
        return accounts, unsound

    def _wrong_with(self, name: str, balance: Decimal | None, head: Head | None) -> str | None:
        where = f"Account {name!r} of {self.terms.table!r}"
        if balance is None or not balance.is_finite():
            held = "NULL" if balance is None else str(balance)
            return f"{where} holds {held} in {self.terms.column!r}, which is no amount of money. Set it to one first"
        if head is not None and head.after != balance:
            return (
                f"{where} holds {balance:f} in {self.terms.column!r}, and its books end at {head.after:f}: it was "
                f"changed by something else than a transfer. Set it back, and make the change by a transfer. {ADVICE}"
            )
        return None

    async def _write(self, connection: AsyncConnection, posting: Posting) -> None:
        if posting.entries:
            await self._statements.add_entries(connection, posting.entries)
        if posting.refusals:
            await self._statements.add_refusals(connection, posting.refusals)
        if not posting.balances:
            return
        stored = await self._statements.set_balances(connection, posting.balances)
        for name, balance in posting.balances.items():
            if stored.get(name) != balance:
                found = f"holds {stored[name]} then" if name in stored else "was not updated"
                raise BooksError(
                    f"Account {name!r} of {self.terms.table!r} was given {balance:f} in {self.terms.column!r} and "
                    f"{found}: a trigger, rule or policy of the table stands between. Transfers cannot be booked on it"
                )


def _verdict(one: _Asked, first: _Asked, known: Mapping[str, StoredTransfer], refused: Mapping[str, str]) -> Verdict:
    """The verdict on one transfer, once the first of its key has been written down or found."""
    key = one.transfer.key
    stored = known.get(key)
    if stored is not None:
        if stored.request_hash == one.request_hash:
            return Verdict(TransferEnd.REPLAYED, stored.refusal)
        return Verdict(
            TransferEnd.CONFLICT, _conflict(one, f"{said(stored.transfer)} in {stored.book}, of run {stored.run_id!r}")
        )
    if one is first:
        return Verdict(TransferEnd.REFUSED, refused[key]) if key in refused else Verdict(TransferEnd.APPLIED)
    if first.request_hash == one.request_hash:
        return Verdict(TransferEnd.REPLAYED, refused.get(key, ""))
    return Verdict(TransferEnd.CONFLICT, _conflict(one, f"{said(first.transfer)}, earlier in this source"))


def _conflict(one: _Asked, other: str) -> str:
    return (
        f"Idempotency key {one.transfer.key!r} belongs to another transfer: {other}. This one is {said(one.transfer)}. "
        "Give each transfer a key of its own"
    )


def said(transfer: Transfer) -> str:
    """A transfer in words."""
    why = f" for {transfer.reason!r}" if transfer.reason else ""
    return f"{transfer.amount:f} from {transfer.from_account!r} to {transfer.to_account!r}{why}"
