"""The terms on which a table's accounts are booked: which key, which money column, and so what a request may say.

Pure: made from what the database declares. Refuses tables whose books could not be exact.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final, TypeVar
from uuid import UUID

from worker.core.errors import RequestError
from worker.core.table_facts import ColumnFacts, TableFacts
from worker.core.transfer_request import read_account, read_amount, read_key, read_reason
from worker.core.transfers import EXACT, Transfer, request_hash

T = TypeVar("T")

TRANSFER_FIELDS: Final = ("idempotency_key", "from_account", "to_account", "amount", "reason")
"""What a requested transfer says of itself."""

_INTEGERS: Final = frozenset({"int2", "int4", "int8"})
_INTEGER: Final = re.compile(r"-?[0-9]+")
_SCALED: Final = re.compile(r"numeric\([0-9]+,(-?[0-9]+)\)")


class KeyKind(StrEnum):
    """What an account is found by."""

    INTEGER = "integer"
    UUID = "uuid"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class BookTerms:
    """How the accounts of one table are booked by one of its money columns.

    Attributes:
        table: the registered name of the table.
        column: the money column's name.
        column_type: its type, as the catalogue writes it.
        scale: the decimals that it has; None where it takes any number of them.
        key: the name of the primary key's column.
        key_kind: what the key is.
        key_type: its type without a length, usable in a cast.
        key_range: the least and the greatest value of an integer key.
    """

    table: str
    column: str
    column_type: str
    scale: int | None
    key: str
    key_kind: KeyKind
    key_type: str
    key_range: tuple[int, int]

    def exact(self, amount: Decimal | int) -> Decimal:
        """An amount with the decimals that the money column has, and more only where they are not 0.

        Args:
            amount: as a database keeps it that writes numbers with more zeros at their end, or with fewer.
        """
        whole, _, fraction = format(Decimal(amount), "f").partition(".")
        kept = max(self.scale or 0, len(fraction.rstrip("0")))
        return Decimal(f"{whole}.{fraction:0<{kept}}"[: len(whole) + 1 + kept] if kept else whole)

    def read(self, given: Mapping[str, object]) -> Transfer:
        """A transfer, from what was sent.

        Args:
            given: what was sent, by the names of `TRANSFER_FIELDS`; a missing one is None.

        Raises:
            ValueError: some parts cannot be used; the message names each and says why.
        """
        problems: list[str] = []

        def part(name: str, read: Callable[[object], T], stand_in: T) -> T:
            try:
                return read(given.get(name))
            except ValueError as problem:
                problems.append(f"{name}: {problem}")
                return stand_in

        transfer = Transfer(
            key=part("idempotency_key", read_key, ""),
            from_account=part("from_account", self.account, ""),
            to_account=part("to_account", self.account, ""),
            amount=part("amount", self.amount, Decimal(0)),
            reason=part("reason", read_reason, ""),
        )
        if problems:
            raise ValueError("; ".join(problems))
        return transfer

    def account(self, given: object) -> str:
        """An account's key as text, in the one form in which the database writes it.

        Raises:
            ValueError: no row can have that key.
        """
        name = read_account(given)
        match self.key_kind:
            case KeyKind.TEXT:
                return name
            case KeyKind.UUID:
                return self._uuid(name)
            case KeyKind.INTEGER:
                return self._integer(name)

    def _uuid(self, name: str) -> str:
        try:
            return str(UUID(name))
        except ValueError:
            raise ValueError(f"{name!r} is no UUID, and the accounts of {self.table!r} have UUIDs") from None

    def _integer(self, name: str) -> str:
        if _INTEGER.fullmatch(name) is None:
            raise ValueError(f"{name!r} is no integer, and the accounts of {self.table!r} have integers")
        number, (least, most) = int(name), self.key_range
        if not least <= number <= most:
            raise ValueError(f"{number} is outside the range of {self.key!r}, {least} to {most}")
        return str(number)

    def amount(self, given: object) -> Decimal:
        """An amount with exactly the decimals that the money column has.

        Raises:
            ValueError: see `read_amount`; or it has more decimals than the column.
        """
        amount = read_amount(given)
        if self.scale is None:
            return amount
        decimals = -int(amount.as_tuple().exponent)
        if decimals > self.scale:
            example = f"12.{'5':0<{self.scale}}" if self.scale else "1250, in the smallest unit of the money"
            raise ValueError(
                f"{amount} has {decimals} decimals, and column {self.column!r} ({self.column_type}) has {self.scale}; "
                f"for example {example}"
            )
        return EXACT.quantize(amount, Decimal(1).scaleb(-self.scale))

    @property
    def zero(self) -> Decimal:
        """No money, with the decimals that the money column has."""
        return Decimal((0, (0,), -(self.scale or 0)))

    def request_hash(self, transfer: Transfer) -> str:
        """The fingerprint of a transfer on these terms."""
        return request_hash(self.table, self.column, transfer)


def book_terms(facts: TableFacts, column: str) -> BookTerms:
    """The terms of a table as its database declares it.

    Args:
        facts: the table's.
        column: its money column.

    Raises:
        UnknownColumnError: the table has no such column.
        RequestError: it has no primary key of one column that names accounts exactly, or a money column that does not
            hold money exactly.
    """
    money = facts.column(column)
    _refuse_inexact(facts.table, money)
    key = _key_column(facts)
    scaled = _SCALED.fullmatch(money.full_type)
    return BookTerms(
        table=facts.table,
        column=column,
        column_type=money.full_type,
        scale=int(scaled[1]) if scaled else 0 if money.driver_type in _INTEGERS else None,
        key=key.name,
        key_kind=_kind_of(facts.table, key),
        key_type=key.type_name,
        key_range=(int(key.minimum or 0), int(key.maximum or 0)),
    )


def _refuse_inexact(table: str, money: ColumnFacts) -> None:
    holds_money = money.driver_type == "numeric" or money.driver_type in _INTEGERS
    if not holds_money or money.array:
        raise RequestError(
            f"Column {money.name!r} of table {table!r} is {money.full_type}, which does not hold money exactly. "
            "Transfers need a numeric, such as numeric(20,2), or an integer of the money's smallest unit"
        )
    if money.exact_digits is not None:
        raise RequestError(
            f"Column {money.name!r} of table {table!r} is {money.full_type}, of which this database keeps no more than "
            f"{money.exact_digits} digits exactly. Transfers need a numeric with no more, such as "
            f"numeric({money.exact_digits},2), or an integer of the money's smallest unit"
        )
    if money.generated:
        raise RequestError(
            f"Column {money.name!r} of table {table!r} is written by the database alone, so no transfer can change it. "
            'Name the column that holds the money: WORKER_ALLOW=\'{"account": ["transfer:balance"]}\''
        )
    scaled = _SCALED.fullmatch(money.full_type)
    if scaled and int(scaled[1]) < 0:
        raise RequestError(
            f"Column {money.name!r} of table {table!r} is {money.full_type}, which rounds units away. Transfers need "
            "a numeric with a scale of 0 or more, for example numeric(20,2)"
        )


def _key_column(facts: TableFacts) -> ColumnFacts:
    primary = next((key for key in facts.unique_keys if key.primary), None)
    if primary is None or len(primary.columns) != 1:
        found = "no primary key" if primary is None else f"the primary key ({', '.join(primary.columns)})"
        raise RequestError(
            f"Table {facts.table!r} has {found}. Transfers find an account by a primary key of one column, of "
            "integers, text or UUIDs"
        )
    return facts.column(primary.columns[0])


def _kind_of(table: str, key: ColumnFacts) -> KeyKind:
    if key.driver_type in _INTEGERS:
        return KeyKind.INTEGER
    if key.driver_type == "uuid":
        return KeyKind.UUID
    # citext, char(n) and collations that overlook a difference would give one account several names
    if key.text and key.comparable and key.type_name in {"text", "character varying"}:
        return KeyKind.TEXT
    raise RequestError(
        f"The primary key {key.name!r} of table {table!r} is {key.full_type}. Transfers need a key that has one "
        "written form for each account: integers, text or varchar (of a deterministic collation), or UUIDs"
    )
