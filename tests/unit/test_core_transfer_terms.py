"""What a requested transfer may say, and which tables can have books at all."""

import re
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from worker.core.errors import RequestError, UnknownColumnError
from worker.core.table_facts import ColumnFacts, TableFacts, UniqueKey
from worker.core.transfer_request import AccountText, AmountText, ReasonText, TransferKey, read_amount
from worker.core.transfer_terms import BookTerms, KeyKind, book_terms
from worker.core.transfers import Transfer

AMOUNT, ACCOUNT = TypeAdapter[str](AmountText), TypeAdapter[str](AccountText)
KEY, REASON = TypeAdapter[str](TransferKey), TypeAdapter[str](ReasonText)

NUMERIC = ColumnFacts("balance", "numeric", "numeric(12,2)", nullable=False, driver_type="numeric")
CENTS = ColumnFacts("balance", "bigint", "bigint", nullable=False, driver_type="int8")
ANY_SCALE = ColumnFacts("balance", "numeric", "numeric", nullable=False, driver_type="numeric")
TEXT_KEY = ColumnFacts("id", "text", "text", nullable=False, text=True)
INTEGER_KEY = ColumnFacts(
    "id", "integer", "integer", nullable=False, driver_type="int4", minimum=-(2**31), maximum=2**31 - 1
)
UUID_KEY = ColumnFacts("id", "uuid", "uuid", nullable=False, driver_type="uuid")
PRIMARY = UniqueKey("account_pkey", ("id",), primary=True)
SENT = {"idempotency_key": "k", "from_account": "a", "to_account": "b", "amount": "5.5", "reason": "rent"}


def terms(key: ColumnFacts = TEXT_KEY, money: ColumnFacts = NUMERIC) -> BookTerms:
    """The terms of a table of accounts."""
    return book_terms(TableFacts("account", {"id": key, "balance": money}, (PRIMARY,)), "balance")


def test_a_column_that_rounds_what_its_type_promises_holds_no_money() -> None:
    """Where a database keeps fewer digits than were declared, it says so, and what to declare instead."""
    rounded = ColumnFacts("balance", "numeric", "numeric(20,2)", nullable=False, driver_type="numeric", exact_digits=15)
    with pytest.raises(RequestError, match=r"keeps no more than 15 digits exactly.* numeric\(15,2\), or an integer"):
        terms(money=rounded)


@pytest.mark.parametrize(
    ("given", "amount"),
    [
        ("12.50", "12.50"),
        (12, "12"),
        ("0012", "12"),
        ("0.01", "0.01"),
        (Decimal("5.5000"), "5.5"),
        (Decimal("1E+2"), "100"),
    ],
)
def test_an_amount_is_what_was_written(given: object, amount: str) -> None:
    """Integers and plain decimals are read to the digit."""
    assert str(read_amount(given)) == amount


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (12.5, "12.5 came as a number with a fraction"),
        (float("nan"), "nan came as a number with a fraction"),
        (Decimal("NaN"), "'NaN' is no plain number"),
        (Decimal(-1), "not more than 0"),
        (True, "a value of type bool is no amount"),
        (None, "it is missing"),
        ([], "a value of type list is no amount"),
        ("", "'' is no plain number"),
        ("NaN", "'NaN' is no plain number"),
        ("Infinity", "'Infinity' is no plain number"),
        ("1e2", "'1e2' is no plain number"),
        ("1E-3", "'1E-3' is no plain number"),
        ("12,50", "'12,50' is no plain number"),
        ("1_000", "'1_000' is no plain number"),
        (" 5", "' 5' is no plain number"),
        (".5", "'.5' is no plain number"),
        ("5.", "'5.' is no plain number"),
        ("+5", "'+5' is no plain number"),
        ("\N{ARABIC-INDIC DIGIT FIVE}", "is no plain number"),
        ("12 EUR", "is no plain number"),
        ("0", "'0' is not more than 0"),
        ("0.00", "'0.00' is not more than 0"),
        ("-5", "'-5' is not more than 0; to move money back, swap the two accounts"),
        (-5, "'-5' is not more than 0"),
        ("9" * 1001, "more than 1,000 digits"),
        (10**1000, "more than 1,000 digits"),
    ],
)
def test_what_is_no_amount(given: object, said: str) -> None:
    """What may not be the amount that was meant is refused, with what is wrong."""
    with pytest.raises(ValueError, match=re.escape(said)):
        read_amount(given)


@pytest.mark.parametrize("given", [12.5, None, "12,50"])
def test_a_bad_amount_is_answered_with_a_good_one(given: object) -> None:
    """The message has an example."""
    with pytest.raises(ValueError, match=r'"12\.50"'):
        read_amount(given)


@given(st.integers(1, 10**20), st.integers(0, 6))
def test_an_amount_takes_the_columns_decimals(units: int, decimals: int) -> None:
    """An amount with no more decimals than the column has is kept exactly; one with more is refused."""
    written = f"{Decimal(units).scaleb(-decimals):f}"
    book = terms()
    if decimals > 2:
        with pytest.raises(ValueError, match=rf"{decimals} decimals, and column 'balance' \(numeric\(12,2\)\) has 2"):
            book.amount(written)
    else:
        amount = book.amount(written)
        assert amount == Decimal(written)
        assert amount.as_tuple().exponent == -2


def test_minor_units_have_no_decimals() -> None:
    """`5.00` in a column of cents may well be meant as five euros: it is refused, and 500 is taken."""
    assert terms(money=CENTS).amount(500) == 500
    with pytest.raises(
        ValueError, match=r"5\.00 has 2 decimals, and column 'balance' \(bigint\) has 0; for example 1250"
    ):
        terms(money=CENTS).amount("5.00")


@pytest.mark.parametrize(
    ("money", "kept", "exact"),
    [
        (NUMERIC, "30.5", "30.50"),
        (NUMERIC, "100", "100.00"),
        (NUMERIC, "77.5000000000", "77.50"),
        (NUMERIC, "-1E+2", "-100.00"),
        (NUMERIC, "0.001", "0.001"),
        (CENTS, "120.000", "120"),
        (ANY_SCALE, "0.10", "0.1"),
    ],
)
def test_an_amount_has_the_decimals_of_its_column(money: ColumnFacts, kept: str, exact: str) -> None:
    """However many zeros a database keeps at the end of a number, an amount is written as its column would."""
    assert str(terms(money=money).exact(Decimal(kept))) == exact


def test_a_numeric_without_scale_takes_any_decimals() -> None:
    """Where the column rounds nothing, nothing is refused."""
    assert str(terms(money=ANY_SCALE).amount("0.123456789")) == "0.123456789"


@pytest.mark.parametrize(
    ("key", "given", "name"),
    [
        (TEXT_KEY, "Alice ", "Alice "),
        (TEXT_KEY, 7, "7"),
        (INTEGER_KEY, 7, "7"),
        (INTEGER_KEY, "007", "7"),
        (INTEGER_KEY, "-0", "0"),
        (UUID_KEY, UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (UUID_KEY, "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        (UUID_KEY, "a0eebc999c0b4ef8bb6d6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ],
)
def test_an_account_has_one_name(key: ColumnFacts, given: object, name: str) -> None:
    """Ways to write the same key come out as the one in which the database writes it."""
    assert terms(key).account(given) == name


@pytest.mark.parametrize(
    ("key", "given", "said"),
    [
        (TEXT_KEY, None, "it is missing"),
        (TEXT_KEY, "", "it is empty"),
        (TEXT_KEY, True, "a value of type bool is no text"),
        (TEXT_KEY, 1.0, "a value of type float is no text"),
        (TEXT_KEY, "a\0b", "NUL"),
        (TEXT_KEY, "\ud800", "surrogate"),
        (TEXT_KEY, "x" * 256, "256 characters, more than 255"),
        (TEXT_KEY, 10**80, "a value of type int is no text"),
        (INTEGER_KEY, "seven", "'seven' is no integer"),
        (INTEGER_KEY, "7.0", "'7.0' is no integer"),
        (INTEGER_KEY, 2**31, "outside the range of 'id', -2147483648 to 2147483647"),
        (UUID_KEY, "7", "'7' is no UUID"),
    ],
)
def test_what_is_no_account(key: ColumnFacts, given: object, said: str) -> None:
    """A key that no row can have is refused at once."""
    with pytest.raises(ValueError, match=re.escape(said)):
        terms(key).account(given)


def test_a_request_is_read_whole() -> None:
    """All five parts, each in its one form."""
    assert terms().read(SENT) == Transfer("k", "a", "b", Decimal("5.50"), "rent")


def test_a_reason_may_be_missing() -> None:
    """Nothing was said of why."""
    assert terms().read({**SENT, "reason": None}).reason == ""


def test_all_that_is_wrong_is_said_at_once() -> None:
    """One message names each part that cannot be used."""
    sent = {"idempotency_key": "", "from_account": 1.5, "amount": "x", "reason": 5}
    parts = ("idempotency_key: it is empty", "from_account: ", "to_account: it is missing", "amount: ", "reason: ")
    with pytest.raises(ValueError, match=".*; ".join(parts)):
        terms().read(sent)


@pytest.mark.parametrize(
    ("money", "said"),
    [
        (ColumnFacts("balance", "double precision", "double precision", nullable=False, driver_type="float8"), "exact"),
        (ColumnFacts("balance", "money", "money", nullable=False), "exact"),
        (ColumnFacts("balance", "text", "text", nullable=False, text=True), "exact"),
        (ColumnFacts("balance", "numeric[]", "numeric[]", nullable=False, driver_type="numeric", array=True), "exact"),
        (
            ColumnFacts("balance", "numeric", "numeric(5,-2)", nullable=False, driver_type="numeric"),
            "rounds units away",
        ),
        (
            ColumnFacts("balance", "numeric", "numeric(12,2)", nullable=False, driver_type="numeric", generated=True),
            "database alone",
        ),
    ],
)
def test_money_that_would_not_be_exact(money: ColumnFacts, said: str) -> None:
    """A column that cannot hold money to the last digit is refused, with what to use instead."""
    with pytest.raises(RequestError, match=said):
        terms(money=money)


@pytest.mark.parametrize(
    "key",
    [
        ColumnFacts("id", "citext", "citext", nullable=False, text=True, comparable=False),
        ColumnFacts("id", "text", "text", nullable=False, text=True, comparable=False),
        ColumnFacts("id", "character", "character(8)", nullable=False, text=True),
        ColumnFacts("id", "numeric", "numeric", nullable=False, driver_type="numeric"),
        ColumnFacts("id", "date", "date", nullable=False, driver_type="date"),
    ],
)
def test_keys_with_several_names_are_refused(key: ColumnFacts) -> None:
    """Where two texts can name one account, the books could not tell it from two."""
    with pytest.raises(RequestError, match="one written form"):
        terms(key)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ((UniqueKey("account_pkey", ("id", "balance"), primary=True),), r"the primary key \(id, balance\)"),
        ((UniqueKey("other", ("id",)),), "no primary key"),
        ((), "no primary key"),
    ],
)
def test_an_account_is_found_by_one_column(keys: tuple[UniqueKey, ...], said: str) -> None:
    """Composite keys and tables without a primary key are refused."""
    facts = TableFacts("account", {"id": TEXT_KEY, "balance": NUMERIC}, keys)
    with pytest.raises(RequestError, match=said):
        book_terms(facts, "balance")


def test_an_unknown_money_column() -> None:
    """A grant of a column that is not there gets the nearest name."""
    with pytest.raises(UnknownColumnError, match="Did you mean 'balance'"):
        book_terms(TableFacts("account", {"id": TEXT_KEY, "balance": NUMERIC}, (PRIMARY,)), "balence")


def test_terms_of_a_plain_table() -> None:
    """What the database declares is what the books go by."""
    book = terms(INTEGER_KEY, CENTS)
    assert (book.key_kind, book.key_type, book.key_range) == (KeyKind.INTEGER, "integer", (-(2**31), 2**31 - 1))
    assert (book.scale, str(book.zero)) == (0, "0")
    assert str(terms().zero) == "0.00"


@pytest.mark.parametrize(
    ("kind", "given", "text"),
    [
        (AMOUNT, 5, "5"),
        (AMOUNT, "5.50", "5.50"),
        (AMOUNT, Decimal("1E+2"), "100"),
        (ACCOUNT, 7, "7"),
        (ACCOUNT, UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (KEY, "k", "k"),
        (REASON, "", ""),
    ],
)
def test_parameters_become_text(kind: TypeAdapter[str], given: object, text: str) -> None:
    """What travels in a payload is text that reads the same everywhere."""
    assert kind.validate_python(given) == text


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (AMOUNT, 5.0),
        (AMOUNT, Decimal("NaN")),
        (AMOUNT, True),
        (ACCOUNT, 1.5),
        (KEY, 7),
        (KEY, ""),
    ],
)
def test_parameters_that_are_refused(kind: TypeAdapter[str], given: object) -> None:
    """Nothing is taken for text that is none."""
    with pytest.raises(ValidationError):
        kind.validate_python(given)
