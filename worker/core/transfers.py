"""The rules of transfers: given transfers in order and the accounts as they are, the entries and the refusals.

Pure: no I/O, `Decimal` only, exact or an error. Owns what a transfer is, when one is refused, and what is written down
of it. Refuses to read requests (that is `worker.core.transfer_terms`) and to know where books are kept.

What is kept of a transfer follows TigerBeetle (a transfer is immutable, at most one per id, and an id whose transfer
was refused stays refused) and pgledger (two entries, each with the balance before and after and the account's version,
a number without gaps); the key with a fingerprint of the request is Stripe's way to a safe retry.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from enum import StrEnum
from functools import reduce
from hashlib import sha256

ZERO = Decimal(0)

EXACT = Context(prec=150_000, traps=[Inexact, InvalidOperation, Overflow])
"""Arithmetic without rounding: more digits than a numeric of PostgreSQL has, and an error rather than a lost one."""


class Kind(StrEnum):
    """What an entry is."""

    OPENING = "opening"
    """What an account held when the books first met it."""
    DEBIT = "debit"
    """A transfer takes from the account: its amount is negative."""
    CREDIT = "credit"
    """A transfer adds to the account."""


class Code(StrEnum):
    """Why a transfer was refused, for good."""

    SAME_ACCOUNT = "same_account"
    UNKNOWN_ACCOUNT = "unknown_account"
    INSUFFICIENT_FUNDS = "insufficient_funds"


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer as asked for, validated.

    Attributes:
        key: the idempotency key: one transfer has it, ever.
        from_account: the account's key, as text in its one exact form.
        to_account: likewise.
        amount: more than 0, with as many decimals as the money column has.
        reason: why, for whoever reads the books.
    """

    key: str
    from_account: str
    to_account: str
    amount: Decimal
    reason: str


@dataclass(frozen=True, slots=True)
class Account:
    """A locked account.

    Attributes:
        balance: what its row holds.
        version: of its last entry; 0 where the books do not know it yet.
    """

    balance: Decimal
    version: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an account's book.

    Attributes:
        key: the transfer's; None for an opening.
        account: whose.
        version: 1 for the account's first entry, then without a gap.
        kind: opening, debit or credit.
        amount: what the balance changes by.
        before: the balance before.
        after: the balance after.
    """

    key: str | None
    account: str
    version: int
    kind: Kind
    amount: Decimal
    before: Decimal
    after: Decimal


@dataclass(frozen=True, slots=True)
class Refusal:
    """A transfer that was refused: a final result, never tried again."""

    key: str
    code: Code
    message: str


@dataclass(slots=True)
class Posting:
    """What is to be written down for some transfers.

    Attributes:
        entries: in the order in which they were made.
        refusals: in the order of the transfers.
        balances: of each account that has new entries, what it ends at.
    """

    entries: list[Entry] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    balances: dict[str, Decimal] = field(default_factory=dict)


def post(transfers: Sequence[Transfer], accounts: Mapping[str, Account]) -> Posting:
    """Carry transfers out on paper, one after the other.

    Each sees what those before it left, so that it makes no difference where a list of transfers is cut in two. None
    may leave an account with less than nothing.

    Args:
        transfers: in order, no two with one key.
        accounts: those of them that exist, with their balances and last versions.

    Returns:
        Two entries for each transfer that was carried out, after the opening of an account that had none, and one
        refusal for each other.
    """
    posting = Posting()
    versions = {name: account.version for name, account in accounts.items()}
    for transfer in transfers:
        refusal = _refusal(transfer, accounts, posting.balances)
        if refusal is not None:
            posting.refusals.append(refusal)
            continue
        sides = (
            (transfer.from_account, Kind.DEBIT, EXACT.minus(transfer.amount)),
            (transfer.to_account, Kind.CREDIT, transfer.amount),
        )
        for name, kind, amount in sides:
            if versions[name] == 0:
                versions[name] = 1
                opening = accounts[name].balance
                posting.entries.append(Entry(None, name, 1, Kind.OPENING, opening, ZERO, opening))
            before = posting.balances.get(name, accounts[name].balance)
            after = EXACT.add(before, amount)
            versions[name] += 1
            posting.balances[name] = after
            posting.entries.append(Entry(transfer.key, name, versions[name], kind, amount, before, after))
    return posting


def _refusal(transfer: Transfer, accounts: Mapping[str, Account], balances: Mapping[str, Decimal]) -> Refusal | None:
    source, target = transfer.from_account, transfer.to_account
    if source == target:
        return Refusal(transfer.key, Code.SAME_ACCOUNT, f"Account {source!r} is both ends of the transfer")
    for name in (source, target):
        if name not in accounts:
            return Refusal(transfer.key, Code.UNKNOWN_ACCOUNT, f"There is no account {name!r}")
    held = balances.get(source, accounts[source].balance)
    if held < transfer.amount:
        return Refusal(
            transfer.key,
            Code.INSUFFICIENT_FUNDS,
            f"Account {source!r} holds {held:f}, less than the {transfer.amount:f} to be transferred",
        )
    return None


def exact_sum(start: Decimal, amounts: Iterable[Decimal]) -> Decimal:
    """A number and some amounts, added up without rounding."""
    return reduce(EXACT.add, amounts, start)


def plain(amount: Decimal) -> str:
    """An amount in digits, without zeros at the end of its fraction: the one form that a fingerprint is taken of."""
    written = f"{amount:f}"
    return written.rstrip("0").rstrip(".") if "." in written else written


def request_hash(table: str, column: str, transfer: Transfer) -> str:
    """The fingerprint of a request, by which a key that is used again is told from one used for something else.

    Args:
        table: of the accounts.
        column: the money column.
        transfer: what was asked for.

    Returns:
        64 hexadecimal digits: the SHA-256 of all that was asked for but the key, each part preceded by its length in
        bytes, so that no two requests run into the same text. The verifier computes it again in SQL.
    """
    parts = (table, column, transfer.from_account, transfer.to_account, plain(transfer.amount), transfer.reason)
    return sha256(b"".join(b"%d:%b" % (len(part), part) for part in (text.encode() for text in parts))).hexdigest()
