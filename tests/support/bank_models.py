"""Tables of accounts: keys of each kind, money in decimals and in minor units."""

from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy.types import TypeEngine
from sqlmodel import BigInteger, CheckConstraint, Column, Field, Integer, Numeric, SQLModel, String

NAME: Final[TypeEngine[Any]] = String(40).with_variant(String(40, collation="utf8mb4_nopad_bin"), "mysql", "mariadb")
"""A text that differs from every other, by case or spaces, too; only MariaDB need be told."""

GOLD: Final[TypeEngine[Any]] = (
    Numeric().with_variant(Numeric(15, 9), "sqlite").with_variant(Numeric(40, 20), "mysql", "mariadb")
)
"""As many decimals as a database can hold exactly."""


class Account(SQLModel, table=True):
    """A text key, and decimals. The database itself admits no more than a million."""

    __tablename__ = "account"
    __table_args__ = (CheckConstraint("balance <= 1000000", name="account_limit"),)

    id: str = Field(sa_column=Column(NAME, primary_key=True))
    balance: Decimal = Field(sa_column=Column(Numeric(12, 2), nullable=False))


class Wallet(SQLModel, table=True):
    """An integer key, and minor units; the model's names differ from the table's."""

    __tablename__ = "wallet"

    number: int = Field(sa_column=Column("id", Integer, primary_key=True))
    money: int = Field(sa_column=Column("cents", BigInteger, nullable=False))


class Purse(SQLModel, table=True):
    """A UUID for a key, and a numeric that takes any number of decimals, where there is such a thing."""

    __tablename__ = "purse"

    id: UUID = Field(primary_key=True)
    gold: Decimal = Field(sa_column=Column(GOLD, nullable=False))


class Seat(SQLModel, table=True):
    """What transfers refuse: a key of two columns."""

    __tablename__ = "seat"

    hall: int = Field(primary_key=True)
    row: int = Field(primary_key=True)
    price: int


class Jar(SQLModel, table=True):
    """What transfers refuse: a float for money."""

    __tablename__ = "jar"

    id: int = Field(primary_key=True)
    coins: float


class Payment(SQLModel, table=True):
    """Transfers that a load was staged in."""

    __tablename__ = "payment"

    idempotency_key: str = Field(primary_key=True)
    from_account: str
    to_account: str
    amount: Decimal = Field(sa_column=Column(Numeric(14, 4), nullable=False))
    reason: str | None = None
