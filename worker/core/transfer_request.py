"""The parts of a requested transfer, read into their one exact form: amounts, keys, texts.

Pure. Refuses what could mean another amount than the sender's: floats, NaN, exponents, separators.
"""

import re
from decimal import Decimal
from typing import Annotated, Final
from uuid import UUID

from pydantic import BeforeValidator

from worker.core.transfers import plain

LONGEST_NAME: Final = 255
"""Characters of an idempotency key and of an account's key, as the books have them."""

LONGEST_REASON: Final = 1_000
MOST_DIGITS: Final = 1_000

_SHOWN: Final = 80
_PLAIN: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


def read_amount(given: object) -> Decimal:
    """An amount exactly as it was written, its decimals included.

    Args:
        given: an integer, a decimal number as text, or a `Decimal`, as a table or a pickle has it; zeros at the end of
            its fraction are its column's, not the writer's.

    Raises:
        ValueError: it is of another type, no plain number, or not more than 0; the message says what would be one.
    """
    if isinstance(given, Decimal):
        given = plain(given)
    if isinstance(given, bool) or not isinstance(given, int | str):
        raise ValueError(f'{_why_no_number(given)}; give a decimal number as text, such as "12.50", or an integer')  # noqa: TRY004 - what validators turn into a reason
    if len(given) > MOST_DIGITS if isinstance(given, str) else abs(given) >= 10**MOST_DIGITS:
        raise ValueError(f"it has more than {MOST_DIGITS:,} digits")
    written = str(given)
    if _PLAIN.fullmatch(written) is None:
        raise ValueError(
            f'{shown(written)} is no plain number; give digits with a point, such as "12.50", without exponent, '
            "separators or spaces"
        )
    amount = Decimal(written)
    if amount <= 0:
        raise ValueError(f"{shown(written)} is not more than 0; to move money back, swap the two accounts")
    return amount


def _why_no_number(given: object) -> str:
    if given is None:
        return "it is missing"
    if isinstance(given, float):
        return f"{given} came as a number with a fraction, which JSON does not keep exactly"
    return f"a value of type {type(given).__name__} is no amount"


def read_key(given: object) -> str:
    """An idempotency key.

    Raises:
        ValueError: it is no text, empty or too long.
    """
    return _named(read_text(given, LONGEST_NAME))


def read_account(given: object) -> str:
    """An account's key as text, whatever its column's type is.

    Args:
        given: text, an integer, or a UUID.

    Raises:
        ValueError: it is neither, empty or too long.
    """
    if isinstance(given, UUID) or (type(given) is int and given.bit_length() < LONGEST_NAME):
        return str(given)
    return _named(read_text(given, LONGEST_NAME))


def read_reason(given: object) -> str:
    """A transfer's reason; nothing for None.

    Raises:
        ValueError: it is no text, or too long.
    """
    return "" if given is None else read_text(given, LONGEST_REASON)


def read_text(given: object, longest: int) -> str:
    """Text that every database can hold.

    Args:
        given: what was sent.
        longest: the most characters.

    Raises:
        ValueError: it is no text, too long, or holds a NUL or half of a surrogate pair.
    """
    if not isinstance(given, str):
        raise ValueError("it is missing" if given is None else f"a value of type {type(given).__name__} is no text")  # noqa: TRY004 - what validators turn into a reason
    if len(given) > longest:
        raise ValueError(f"it has {len(given):,} characters, more than {longest:,}")
    if "\0" in given or given.encode(errors="replace").decode() != given:
        raise ValueError(f"{shown(given)} holds a NUL or half of a surrogate pair, which no database keeps as text")
    return given


def _named(text: str) -> str:
    if not text:
        raise ValueError("it is empty")
    return text


def shown(text: str) -> str:
    """Text as a message quotes it."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}..."


def _amount_text(given: object) -> str:
    return f"{read_amount(given):f}"


TransferKey = Annotated[str, BeforeValidator(read_key)]
"""The parameter `idempotency_key`."""

AccountText = Annotated[str, BeforeValidator(read_account)]
"""The parameters `from_account` and `to_account`."""

AmountText = Annotated[str, BeforeValidator(_amount_text)]
"""The parameter `amount`, as it was written: how many decimals it may have, only the database says."""

ReasonText = Annotated[str, BeforeValidator(read_reason)]
"""The parameter `reason`."""
