"""The ledger's checks of money on SQLite: exact, on text, and in plain SQL.

SQLite calculates by 64-bit integers and by floats, and has no exact decimals. A function of Python's could add them up,
but a table with such a check could be written by no other program, nor restored from a dump of its own. So an amount is
held to a form, and what is checked of it is what its form shows:

```text
form   at most 18 digits before the point and 18 after it, and one way to write each number: no exponent, no NaN, no
       zeros that say nothing
sign   a minus; and zero is '0'
sum    whole parts and fractions apart, as integers of 64 bits, which three of 18 digits cannot leave
```

Amounts of more digits are refused, as a column of a fixed scale would refuse them.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy.exc import CompileError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import DDLCompiler

from worker.database.money_checks import MoneyCheck

DIGITS: Final = 18
"""Before the point, and after it."""


def _is_amount(column: str) -> str:
    number = f"ltrim({column}, '-')"
    whole_digits = f"instr({number} || '.', '.')"
    return (
        f"typeof({column}) = 'text' AND {number} GLOB '[0-9]*' AND {number} NOT GLOB '*[^0-9.]*' "
        f"AND length({column}) - length({number}) <= 1 AND {number} NOT GLOB '*.*.*' AND {number} NOT GLOB '*.' "
        f"AND {number} NOT GLOB '0[0-9]*' AND {number} NOT GLOB '*.*0' AND {column} <> '-0' "
        f"AND {whole_digits} <= {DIGITS + 1} AND length({number}) - {whole_digits} <= {DIGITS}"
    )


def _whole(column: str) -> str:
    return f"CAST({column} AS INTEGER)"


def _fraction(column: str) -> str:
    sign = f"substr({column}, 1, {column} GLOB '-*')"
    after = f"substr({column}, instr({column} || '.', '.') + 1)"
    return f"CAST({sign} || substr({after} || '{'0' * DIGITS}', 1, {DIGITS}) AS INTEGER)"


def _is_sum(total: str, first: str, second: str) -> str:
    wholes = " - ".join(map(_whole, (total, first, second)))
    fractions = " - ".join(map(_fraction, (total, first, second)))
    # fractions make up for a difference of two at most; a greater one makes the product a float, and far from zero
    return f"({wholes}) * {10**DIGITS} + ({fractions}) = 0"


_CHECKS: Final[Mapping[str, str]] = {
    "heavylift_transfers_amount_check": f"{_is_amount('amount')} AND amount NOT GLOB '-*' AND amount <> '0'",
    "heavylift_entries_after_check": (
        f"{_is_amount('balance_after')} AND {_is_sum('balance_after', 'balance_before', 'amount')}"
    ),
    "heavylift_entries_finite_check": f"{_is_amount('balance_before')} AND {_is_amount('amount')}",
    "heavylift_entries_kind_check": (
        "(kind = 'opening' AND version = 1 AND balance_before = '0' AND idempotency_key IS NULL) OR "
        "(kind = 'debit' AND version > 1 AND amount GLOB '-*' AND balance_after NOT GLOB '-*' "
        "AND idempotency_key IS NOT NULL) OR "
        "(kind = 'credit' AND version > 1 AND amount NOT GLOB '-*' AND amount <> '0' AND idempotency_key IS NOT NULL)"
    ),
}


@compiles(MoneyCheck, "sqlite")
def _check(element: MoneyCheck, compiler: DDLCompiler, **_: object) -> str:
    check = _CHECKS.get(str(element.name))
    if check is None:
        raise CompileError(f"The check {element.name!r} calculates with money, and SQLite has no spelling of it yet")
    return f"CONSTRAINT {compiler.preparer.format_constraint(element)} CHECK ({check})"
