"""What a column of numbers takes, where its database has limits that its type does not tell."""

from decimal import Decimal

import pytest

from worker.core.table_facts import ColumnFacts
from worker.source.column_numbers import check_finite, check_numerics, numeric_limits


def faults(full_type: str, value: object, digits: int | None = 15) -> dict[int, str]:
    """What is said of a value for a decimal column."""
    facts = ColumnFacts("n", "numeric", full_type, nullable=True, driver_type="numeric", exact_digits=digits)
    limits = numeric_limits(facts)
    assert limits is not None
    found: dict[int, str] = {}
    check_numerics([value], found, limits=limits)
    return found


@pytest.mark.parametrize(
    "value",
    [0, 5, Decimal("0.000000000000012"), Decimal("1234567890123.45"), Decimal("1234567890123.4500"), 123456789012345],
)
def test_as_many_digits_as_are_kept_pass(value: object) -> None:
    """Zeros before the first digit, and at the end of the fraction, are none."""
    assert faults("numeric", value) == {}


@pytest.mark.parametrize("value", [Decimal("12345678901234.56"), 1234567890123456, Decimal("1E+15"), 10**15])
def test_more_digits_than_are_kept_are_refused(value: object) -> None:
    """A number that would be rounded is named, not stored."""
    assert faults("numeric", value) == {0: "has more than 15 digits, beyond which the database rounds"}


def test_the_declared_digits_count_as_well() -> None:
    """A column that declares more than is kept still refuses decimals that it does not have."""
    assert faults("numeric(20,2)", Decimal("0.125")) == {0: "has more than 2 decimals"}


def test_digits_do_not_count_where_all_are_kept() -> None:
    """A database with exact numbers takes what its type says."""
    assert faults("numeric(20,2)", Decimal("123456789012345678.12"), digits=None) == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("-Infinity"), Decimal("NaN")])
def test_what_is_no_number_is_refused_where_the_column_has_numbers_only(value: float | Decimal) -> None:
    """Elsewhere it would silently become NULL, or something else."""
    found: dict[int, str] = {}
    check_finite([1.5, value, None], found)
    assert list(found) == [1]
