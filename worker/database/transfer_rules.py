"""The rules of the books, as queries: each finds the rows that break one.

Owns the rules that only a look at many rows can check. Everything is counted and compared by the database, so that the
books may be of any size. Portable: what a database writes its own way is handed in.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, Text, and_, case, exists, func, literal, not_, or_, select
from sqlalchemy.sql.expression import Subquery

from worker.core.transfer_terms import BookTerms
from worker.core.transfers import Kind
from worker.database.book_statements import account_columns
from worker.database.column_types import Money
from worker.database.transfer_tables import ENTRIES, REFUSALS, TRANSFERS

AnySelect = Select[*tuple[Any, ...]]
"""Each query has columns of its own, which its rule's text names."""

_BOOK = (ENTRIES.c.accounts_table, ENTRIES.c.money_column)
_ACCOUNT = (*_BOOK, ENTRIES.c.account)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the books.

    Attributes:
        name: for machines.
        title: the rule, as a sentence about books that are in order.
        of: what it is about: `transfers`, `entries`, `refusals` or `accounts`.
        broken_by: finds what breaks it.
        told: one such row in words, with the query's columns in braces.
    """

    name: str
    title: str
    of: str
    broken_by: AnySelect
    told: str


def rules(request_hash: ColumnElement[str]) -> list[Rule]:
    """The rules that hold among the books' own tables.

    Args:
        request_hash: the fingerprint of a row of the transfers' table, computed by the database.
    """
    return [
        Rule(
            "complete",
            "each transfer has one debit and one credit, or one refusal",
            "transfers",
            _incomplete(),
            "transfer {idempotency_key!r} has {debits} debits, {credits} credits and {refusals} refusals",
        ),
        Rule(
            "cancel_out",
            "the entries of each transfer cancel out",
            "transfers",
            _not_cancelling(),
            "the entries of transfer {idempotency_key!r} sum to {total:f}",
        ),
        Rule(
            "total",
            "all entries but openings sum to nothing",
            "entries",
            _not_conserving(),
            "the entries of {accounts_table}.{money_column} sum to {total:f}",
        ),
        Rule(
            "as_asked",
            "entries are of the accounts and the amount that their transfer names",
            "entries",
            _not_as_asked(),
            "the {kind} of transfer {idempotency_key!r} is {amount:f} of account {account!r}, and the transfer is "
            "{asked:f} from {from_account!r} to {to_account!r}",
        ),
        Rule(
            "headed",
            "each entry and each refusal belongs to a transfer",
            "entries",
            _headless(),
            "{what} of transfer {idempotency_key!r}, which does not exist",
        ),
        Rule(
            "gapless",
            "each account's versions have no gap",
            "entries",
            _gaps(),
            "account {account!r} of {accounts_table}.{money_column} has version {version} where {due} was due",
        ),
        Rule(
            "chained",
            "each entry begins where the one before it ended",
            "entries",
            _unchained(),
            "version {version} of account {account!r} of {accounts_table}.{money_column} goes from {balance_before:f} "
            "by {amount:f} to {balance_after:f}, and the entry before it ended at {previous:f}",
        ),
        Rule(
            "summed",
            "each account's entries sum to the balance after the last one",
            "accounts",
            _not_summing(),
            "the entries of account {account!r} of {accounts_table}.{money_column} sum to {total:f}, and the last one "
            "ends at {balance:f}",
        ),
        Rule(
            "as_sent",
            "each transfer has the fingerprint of what it says",
            "transfers",
            select(TRANSFERS.c.idempotency_key).where(TRANSFERS.c.request_hash != request_hash),
            "transfer {idempotency_key!r} does not say what was asked for when it was written down",
        ),
    ]


def balance_rule(accounts: Table, terms: BookTerms, account: ColumnElement[str]) -> Rule:
    """The rule that holds between the books of one table and the table itself.

    Args:
        accounts: the registered table.
        terms: its key and its money column.
        account: its key, as the books write it.
    """
    balance = account_columns(accounts, terms)[1].cast(Money())
    held = select(account.label("account"), balance.label("balance")).subquery()
    ends = _ends(ENTRIES.c.accounts_table == terms.table, ENTRIES.c.money_column == terms.column)
    gone = held.c.account.is_(None)
    shown = case((gone, "no row"), (held.c.balance.is_(None), "NULL"), else_=held.c.balance.cast(Text))
    broken = (
        select(ends.c.account, ends.c.balance, shown.label("held"))
        .select_from(ends.outerjoin(held, held.c.account == ends.c.account))
        # an account that was emptied by transfers may go
        .where(held.c.balance.is_distinct_from(ends.c.balance), not_(and_(gone, ends.c.balance == 0)))
    )
    name = f"{terms.table}.{terms.column}"
    return Rule(
        f"balances of {name}",
        f"each account holds in {name} what its books end at",
        "accounts",
        broken,
        f"account {{account!r}}: {name} has {{held}}, and its books end at {{balance:f}}",
    )


def _incomplete() -> AnySelect:
    def entries(kind: Kind) -> ColumnElement[int]:
        return func.sum(case((ENTRIES.c.kind == kind.value, 1), else_=0)).label(f"{kind}s")

    key = ENTRIES.c.idempotency_key
    sides = select(key, entries(Kind.DEBIT), entries(Kind.CREDIT)).where(key.is_not(None)).group_by(key).subquery()
    header = TRANSFERS.c.idempotency_key
    counted = (
        select(
            header,
            func.coalesce(sides.c.debits, 0).label("debits"),
            func.coalesce(sides.c.credits, 0).label("credits"),
            case((REFUSALS.c.idempotency_key.is_(None), 0), else_=1).label("refusals"),
        )
        .select_from(
            TRANSFERS.outerjoin(sides, sides.c.idempotency_key == header).outerjoin(
                REFUSALS, REFUSALS.c.idempotency_key == header
            )
        )
        .subquery()
    )
    found = counted.c
    carried_out = and_(found.debits == 1, found.credits == 1, found.refusals == 0)
    refused = and_(found.debits == 0, found.credits == 0, found.refusals == 1)
    return select(counted).where(not_(or_(carried_out, refused)))


def _not_cancelling() -> AnySelect:
    key, total = ENTRIES.c.idempotency_key, func.sum(ENTRIES.c.amount)
    return select(key, total.label("total")).where(key.is_not(None)).group_by(key).having(total != 0)


def _not_conserving() -> AnySelect:
    total = func.sum(ENTRIES.c.amount)
    moved = ENTRIES.c.kind != Kind.OPENING.value
    return select(*_BOOK, total.label("total")).where(moved).group_by(*_BOOK).having(total != 0)


def _not_as_asked() -> AnySelect:
    transfer, entry = TRANSFERS.c, ENTRIES.c
    debit = and_(
        entry.kind == Kind.DEBIT.value, entry.account == transfer.from_account, entry.amount == -transfer.amount
    )
    credit = and_(
        entry.kind == Kind.CREDIT.value, entry.account == transfer.to_account, entry.amount == transfer.amount
    )
    same_book = and_(entry.accounts_table == transfer.accounts_table, entry.money_column == transfer.money_column)
    return (
        select(
            entry.kind,
            entry.idempotency_key,
            entry.amount,
            entry.account,
            transfer.amount.label("asked"),
            transfer.from_account,
            transfer.to_account,
        )
        .join_from(ENTRIES, TRANSFERS, entry.idempotency_key == transfer.idempotency_key)
        .where(not_(and_(same_book, or_(debit, credit))))
    )


def _headless() -> AnySelect:
    def lost(table: Table, what: str) -> AnySelect:
        key = table.c.idempotency_key
        header = exists().where(TRANSFERS.c.idempotency_key == key)
        return select(literal(what).label("what"), key).where(key.is_not(None), ~header)

    both = lost(ENTRIES, "an entry").union_all(lost(REFUSALS, "a refusal")).subquery()
    return select(both)


def _gaps() -> AnySelect:
    due = func.row_number().over(partition_by=_ACCOUNT, order_by=ENTRIES.c.version)
    numbered = select(*_ACCOUNT, ENTRIES.c.version, due.label("due")).subquery()
    return select(numbered).where(numbered.c.version != numbered.c.due)


def _unchained() -> AnySelect:
    entry = ENTRIES.c
    previous = func.lag(entry.balance_after).over(partition_by=_ACCOUNT, order_by=entry.version)
    linked = select(
        *_ACCOUNT,
        entry.version,
        entry.balance_before,
        entry.amount,
        entry.balance_after,
        func.coalesce(previous, 0).cast(Money()).label("previous"),
    ).subquery()
    found = linked.c
    return select(linked).where(
        or_(found.balance_before != found.previous, found.balance_after != found.balance_before + found.amount)
    )


def _not_summing() -> AnySelect:
    ends = _ends()
    return select(ends).where(ends.c.total != ends.c.balance)


def _ends(*conditions: ColumnElement[bool]) -> Subquery:
    """Each account of the books: the sum of its entries, and the balance after the last one."""
    sums = (
        select(*_ACCOUNT, func.sum(ENTRIES.c.amount).label("total"), func.max(ENTRIES.c.version).label("version"))
        .where(*conditions)
        .group_by(*_ACCOUNT)
        .subquery()
    )
    last = and_(*(ENTRIES.c[column.name] == sums.c[column.name] for column in (*_ACCOUNT, ENTRIES.c.version)))
    columns = [sums.c[column.name] for column in _ACCOUNT]
    return (
        select(*columns, sums.c.total, ENTRIES.c.balance_after.label("balance"))
        .select_from(sums.join(ENTRIES, last))
        .subquery()
    )
