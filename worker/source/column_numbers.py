"""The limits of a column of numbers: ranges of integers, digits of decimals, single-precision floats.

Owns what the catalogue's type allows. Refuses what the database would round: a stored number is the one that was sent.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import Final

from worker.core.table_facts import ColumnFacts

_PRECISE: Final = re.compile(r"(?:numeric|decimal)\((\d+)(?:,\s*(-?\d+))?\)", re.IGNORECASE)
# What an unconstrained numeric holds; beyond it a driver's binary form wraps around instead of failing.
_MOST_DIGITS_BEFORE: Final = 131_072
_MOST_DIGITS_AFTER: Final = 16_383
# Half a unit above the largest single-precision number: from here on it rounds to infinity.
_SINGLE_OVERFLOW: Final = 2.0**128 - 2.0**103


@dataclass(frozen=True, slots=True)
class NumericLimits:
    """What a decimal column holds.

    Attributes:
        before: the most digits before the point; may be negative, as in `numeric(2,4)`.
        after: the most digits after the point; negative where the column keeps only tens, hundreds, ...
        finite: whether infinity is refused.
        digits: the most digits from the first that is not 0 to the last decimal; None where they are not counted.
    """

    before: int
    after: int
    finite: bool
    digits: int | None = None


def numeric_limits(facts: ColumnFacts) -> NumericLimits | None:
    """The limits of a decimal column, from its full type; None where the column is of another type."""
    digits = facts.exact_digits
    if (precise := _PRECISE.fullmatch(facts.full_type)) is not None:
        scale = int(precise[2] or 0)
        return NumericLimits(int(precise[1]) - scale, scale, finite=True, digits=digits)
    if facts.type_name in {"numeric", "decimal"} and not facts.array:
        return NumericLimits(_MOST_DIGITS_BEFORE, _MOST_DIGITS_AFTER, finite=False, digits=digits)
    return None


def check_integers(
    column: list[object], faults: dict[int, str], *, minimum: int | Decimal, maximum: int | Decimal
) -> list[object]:
    """Refuse integers that the column's type cannot hold.

    Args:
        column: validated values; other than integers pass.
        faults: where reasons go, by index.
        minimum: the least value.
        maximum: the greatest value.

    Returns:
        The same column.
    """
    numbers = [value for value in column if type(value) is int]
    if numbers and (min(numbers) < minimum or max(numbers) > maximum):
        for index, value in enumerate(column):
            if type(value) is int and not minimum <= value <= maximum:
                faults[index] = f"is outside the column's range, {minimum} to {maximum}"
    return column


def check_finite(column: list[object], faults: dict[int, str]) -> list[object]:
    """Refuse NaN and infinity, for a column that has neither.

    Args:
        column: validated values; other than floats and decimals pass.
        faults: where reasons go, by index.

    Returns:
        The same column.
    """
    for index, value in enumerate(column):
        if isinstance(value, float | Decimal) and not isfinite(value):
            faults[index] = f"is {value}, which the column cannot hold"
    return column


def check_single_floats(column: list[object], faults: dict[int, str]) -> list[object]:
    """Refuse finite numbers that single precision would turn into infinity.

    Args:
        column: validated values; other than floats pass.
        faults: where reasons go, by index.

    Returns:
        The same column.
    """
    for index, value in enumerate(column):
        if isinstance(value, float) and abs(value) >= _SINGLE_OVERFLOW and isfinite(value):
            faults[index] = "is outside the range of single precision, about -3.4e38 to 3.4e38"
    return column


def check_numerics(column: list[object], faults: dict[int, str], *, limits: NumericLimits) -> list[object]:
    """Refuse decimals with more digits than the column keeps; zeros at the end of the fraction do not count.

    Args:
        column: validated values; other than decimals and integers pass.
        faults: where reasons go, by index.
        limits: what the column holds.

    Returns:
        The same column.
    """
    for index, value in enumerate(column):
        if type(value) is int:
            value = Decimal(value)  # noqa: PLW2901  # one rule for both kinds of number
        if isinstance(value, Decimal) and (why := _numeric_fault(value, limits)) is not None:
            faults[index] = why
    return column


def _numeric_fault(value: Decimal, limits: NumericLimits) -> str | None:
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        return "is infinite, which the column cannot hold" if limits.finite and value.is_infinite() else None
    if -exponent > _MOST_DIGITS_AFTER:
        return f"has more than {_MOST_DIGITS_AFTER} decimals"
    if not value:
        return None
    if value.adjusted() >= limits.before:
        return f"has more than {max(limits.before, 0)} digits before the point"
    last = exponent + _closing_zeros(digits) if exponent < -limits.after or limits.digits else exponent
    return _digits_fault(value.adjusted(), last, limits)


def _closing_zeros(digits: tuple[int, ...]) -> int:
    # Not Decimal.normalize(): it rounds to the precision of the thread's context.
    return len(digits) - len("".join(map(str, digits)).rstrip("0"))


def _digits_fault(first: int, last: int, limits: NumericLimits) -> str | None:
    """What is wrong with a number whose first and last digits other than 0 have these exponents."""
    if last < -limits.after:
        return f"has more than {limits.after} decimals" if limits.after >= 0 else f"is no multiple of 1e{-limits.after}"
    if limits.digits is not None and first - min(last, 0) >= limits.digits:
        return f"has more than {limits.digits} digits, beyond which the database rounds"
    return None
