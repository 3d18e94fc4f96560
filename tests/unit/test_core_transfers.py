"""The rules of transfers, against a model as plain as they can be told, and their properties for any transfers."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.transfers import (
    ZERO,
    Account,
    Code,
    Entry,
    Kind,
    Posting,
    Transfer,
    exact_sum,
    plain,
    post,
    request_hash,
)

NAMES = ["alice", "bob", "carol", "nobody"]

amounts = st.decimals("0.01", "100", places=2)
transfers = st.lists(
    st.builds(
        Transfer, st.uuids().map(str), st.sampled_from(NAMES), st.sampled_from(NAMES), amounts, st.text(max_size=3)
    ),
    max_size=30,
    unique_by=lambda transfer: transfer.key,
)
accounts = st.fixed_dictionaries(
    {},
    optional={name: st.builds(Account, st.decimals("-10", "200", places=2), st.integers(0, 5)) for name in NAMES[:3]},
)


def transfer(source: str, target: str, amount: str, key: str = "k") -> Transfer:
    """A transfer for no reason."""
    return Transfer(key, source, target, Decimal(amount), "")


def after(posting: Posting, before: dict[str, Account]) -> dict[str, Account]:
    """The accounts once a posting was written down."""
    ended = dict(before)
    for entry in posting.entries:
        ended[entry.account] = Account(entry.after, entry.version)
    return ended


@given(asked=transfers, held=accounts)
def test_a_transfer_is_carried_out_or_refused(asked: list[Transfer], held: dict[str, Account]) -> None:
    """Each transfer has its debit and its credit, or its refusal, and never anything else."""
    posting = post(asked, held)
    carried_out: dict[str, list[Entry]] = {}
    for entry in posting.entries:
        if entry.key is not None:
            carried_out.setdefault(entry.key, []).append(entry)
    refused = {refusal.key for refusal in posting.refusals}
    assert carried_out.keys() | refused == {one.key for one in asked}
    assert not carried_out.keys() & refused
    for one in asked:
        if one.key in carried_out:
            debit, credit = carried_out[one.key]
            assert (debit.account, debit.kind, debit.amount) == (one.from_account, Kind.DEBIT, -one.amount)
            assert (credit.account, credit.kind, credit.amount) == (one.to_account, Kind.CREDIT, one.amount)


@given(asked=transfers, held=accounts)
def test_no_money_is_made_or_lost(asked: list[Transfer], held: dict[str, Account]) -> None:
    """All accounts together hold what they held, and the entries but openings sum to nothing."""
    posting = post(asked, held)
    ended = {name: account.balance for name, account in held.items()} | posting.balances
    assert exact_sum(ZERO, ended.values()) == exact_sum(ZERO, (account.balance for account in held.values()))
    assert exact_sum(ZERO, (entry.amount for entry in posting.entries if entry.kind is not Kind.OPENING)) == 0


@given(asked=transfers, held=accounts)
def test_each_accounts_entries_are_a_chain(asked: list[Transfer], held: dict[str, Account]) -> None:
    """Versions go on without a gap, each entry begins where the last one ended, and the last one is the balance."""
    posting = post(asked, held)
    for name, account in held.items():
        entries = [entry for entry in posting.entries if entry.account == name]
        assert [entry.version for entry in entries] == list(
            range(account.version + 1, account.version + 1 + len(entries))
        )
        balance = ZERO if entries and entries[0].kind is Kind.OPENING else account.balance
        for entry in entries:
            assert (entry.before, entry.after) == (balance, balance + entry.amount)
            balance = entry.after
        assert posting.balances.get(name, account.balance) == balance
        assert (name in posting.balances) == bool(entries)


@given(asked=transfers, held=accounts)
def test_an_opening_comes_first_and_only_then(asked: list[Transfer], held: dict[str, Account]) -> None:
    """An account that the books do not know is opened at its balance, once, before its first transfer."""
    for entry in post(asked, held).entries:
        opens = entry.version == 1
        assert opens == (entry.kind is Kind.OPENING)
        assert not opens or (entry.key, entry.amount) == (None, held[entry.account].balance)
        assert not opens or held[entry.account].version == 0


@given(asked=transfers, held=accounts)
def test_nobody_pays_what_he_has_not(asked: list[Transfer], held: dict[str, Account]) -> None:
    """No debit leaves less than nothing."""
    assert all(entry.after >= 0 for entry in post(asked, held).entries if entry.kind is Kind.DEBIT)


@given(asked=transfers, held=accounts, cut=st.integers(0, 30))
def test_it_makes_no_difference_where_transfers_are_cut(
    asked: list[Transfer], held: dict[str, Account], cut: int
) -> None:
    """Two chunks, one after the other, write what one would have written."""
    whole, first = post(asked, held), post(asked[:cut], held)
    second = post(asked[cut:], after(first, held))
    assert first.entries + second.entries == whole.entries
    assert first.refusals + second.refusals == whole.refusals
    assert first.balances | second.balances == whole.balances


@given(asked=transfers, held=accounts)
def test_against_a_plain_model(asked: list[Transfer], held: dict[str, Account]) -> None:
    """Balances and refusals are those of a dictionary of numbers."""
    model = {name: account.balance for name, account in held.items()}
    refused = {}
    for one in asked:
        if one.from_account == one.to_account:
            refused[one.key] = Code.SAME_ACCOUNT
        elif one.from_account not in model or one.to_account not in model:
            refused[one.key] = Code.UNKNOWN_ACCOUNT
        elif model[one.from_account] < one.amount:
            refused[one.key] = Code.INSUFFICIENT_FUNDS
        else:
            model[one.from_account] -= one.amount
            model[one.to_account] += one.amount
    posting = post(asked, held)
    assert {name: account.balance for name, account in held.items()} | posting.balances == model
    assert {refusal.key: refusal.code for refusal in posting.refusals} == refused


def test_money_that_arrives_can_be_spent_at_once() -> None:
    """Order counts: what a transfer brings, the next one may take; the other way round it is refused."""
    held = {"alice": Account(Decimal(5), 1), "bob": Account(Decimal(0), 1)}
    brings, takes = transfer("alice", "bob", "5", "brings"), transfer("bob", "alice", "5", "takes")
    assert post([brings, takes], held).refusals == []
    (refusal,) = post([takes, brings], held).refusals
    assert (refusal.key, refusal.code) == ("takes", Code.INSUFFICIENT_FUNDS)


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        (transfer("alice", "alice", "1"), Code.SAME_ACCOUNT, "Account 'alice' is both ends of the transfer"),
        (transfer("alice", "zoe", "1"), Code.UNKNOWN_ACCOUNT, "There is no account 'zoe'"),
        (transfer("zoe", "alice", "1"), Code.UNKNOWN_ACCOUNT, "There is no account 'zoe'"),
        (
            transfer("alice", "bob", "5.01"),
            Code.INSUFFICIENT_FUNDS,
            "Account 'alice' holds 5.00, less than the 5.01 to be transferred",
        ),
    ],
)
def test_a_refusal_says_why(asked: Transfer, code: Code, said: str) -> None:
    """Each refusal has its code and its sentence, and leaves no entry."""
    held = {"alice": Account(Decimal("5.00"), 0), "bob": Account(ZERO, 0)}
    posting = post([asked], held)
    assert [(refusal.code, refusal.message) for refusal in posting.refusals] == [(code, said)]
    assert posting.entries == []
    assert posting.balances == {}


def test_amounts_of_any_length_are_exact() -> None:
    """Digits beyond those that Python's decimals keep by default are kept all the same."""
    huge, small = Decimal("1" + "0" * 60), Decimal("0." + "0" * 60 + "1")
    held = {"alice": Account(huge, 1), "bob": Account(huge, 1)}
    posting = post([Transfer("k", "alice", "bob", small, "")], held)
    assert f"{posting.balances['bob']:f}" == "1" + "0" * 60 + "." + "0" * 60 + "1"
    assert f"{posting.balances['alice']:f}" == "9" * 60 + "." + "9" * 61


def test_a_debit_of_any_length_is_exact() -> None:
    """What is taken away has every digit of the amount, however the thread's own context would round it."""
    amount = "1" * 40 + "." + "1" * 20
    posting = post([transfer("alice", "bob", amount)], {"alice": Account(Decimal(amount), 1), "bob": Account(ZERO, 1)})
    assert [format(entry.amount, "f") for entry in posting.entries] == [f"-{amount}", amount]
    assert posting.balances == {"alice": ZERO, "bob": Decimal(amount)}


@pytest.mark.parametrize(
    ("amount", "written"), [("5.50", "5.5"), ("100", "100"), ("1E+2", "100"), ("0.10", "0.1"), ("3.00", "3")]
)
def test_a_number_has_one_plain_form(amount: str, written: str) -> None:
    """Zeros at the end of a fraction and exponents do not show; zeros before the point do."""
    assert plain(Decimal(amount)) == written


def test_a_fingerprint_is_of_all_that_was_asked_for() -> None:
    """Equal requests have one fingerprint, whatever their key; each other difference makes another."""
    first = request_hash("account", "balance", Transfer("k", "a", "b", Decimal("5.50"), "rent"))
    assert first == request_hash("account", "balance", Transfer("other", "a", "b", Decimal("5.5"), "rent"))
    others = [
        request_hash("accounts", "balance", Transfer("k", "a", "b", Decimal("5.50"), "rent")),
        request_hash("account", "credit", Transfer("k", "a", "b", Decimal("5.50"), "rent")),
        request_hash("account", "balance", Transfer("k", "b", "a", Decimal("5.50"), "rent")),
        request_hash("account", "balance", Transfer("k", "a", "b", Decimal("5.51"), "rent")),
        request_hash("account", "balance", Transfer("k", "a", "b", Decimal("5.50"), "Rent")),
    ]
    assert len({first, *others}) == 6


@given(
    parts=st.tuples(st.text(max_size=3), st.text(max_size=3)), other=st.tuples(st.text(max_size=3), st.text(max_size=3))
)
def test_parts_do_not_run_into_each_other(parts: tuple[str, str], other: tuple[str, str]) -> None:
    """Text that moves from one part to the next makes another fingerprint."""

    def taken(pair: tuple[str, str]) -> str:
        return request_hash("t", "c", Transfer("k", pair[0], pair[1], Decimal(1), ""))

    assert (taken(parts) == taken(other)) == (parts == other)
